"use strict";
// Texts come from a model: they are only ever set as textContent.
const token = document.querySelector("meta[name=token]").content;
const at = (id) => document.getElementById(id);
const keys = { 1: "first", 2: "second", t: "tie", b: "both_bad", s: "skip" };
let pair = null;
let busy = false;

history.replaceState(null, "", "/"); // the token stays out of bookmarks and of the address that is shown

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function show(state) {
  const other = state.pair !== pair;
  pair = state.done ? null : state.pair;
  at("asking").hidden = state.done;
  at("done").hidden = !state.done;
  for (const button of document.querySelectorAll("[data-vote]")) button.disabled = state.done;
  if (state.done) {
    at("title").textContent = "Which is better?";
    at("progress").value = at("progress").max;
    at("heading").textContent = state.waiting ?? "Every pair has a vote";
    if (state.waiting) setTimeout(() => ask("/api/question"), 2000); // more come while the run trains
    at("said").replaceChildren(...state.said.flatMap(([name, text]) => {
      const [term, value] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, value.textContent] = [name, text];
      return [term, value];
    }));
    return;
  }
  at("title").textContent = `Pair ${state.number} of ${state.of}: which is better?`;
  at("rate").textContent = state.rate;
  at("progress").max = state.of;
  at("progress").value = state.number - 1;
  for (const name of ["prompt", "first", "second"]) at(name).textContent = state[name];
  if (other) {
    at("note").value = "";
    scrollTo(0, 0);
  }
}

async function ask(path, body) {
  if (busy) return;
  busy = true;
  try {
    const post = { method: "POST", headers: { "content-type": "application/json", "x-token": token } };
    const answer = await fetch(path, body ? { ...post, body: JSON.stringify(body) } : {});
    const state = await answer.json();
    if ("done" in state) show(state);
    say(state.error ?? (body ? (path === "/api/undo" ? "taken back" : "saved") : ""), Boolean(state.error));
  } catch {
    say("The server has ended. Every vote that was saved is on disk: run rlhf label again, and open its new link.", true);
  }
  busy = false;
}

const vote = (choice) => pair && ask("/api/vote", { pair, vote: choice, note: at("note").value });
const undo = () => ask("/api/undo", {});

addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  button.blur();
  if ("undo" in button.dataset) undo();
  else vote(button.dataset.vote);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (document.activeElement === at("note")) {
    if (event.key === "Escape") at("note").blur();
    return;
  }
  const key = event.key.toLowerCase();
  if (keys[key]) vote(keys[key]);
  else if (key === "u") undo();
  else if (key === "n") at("note").focus();
  else return;
  event.preventDefault();
});

addEventListener("pageshow", (event) => event.persisted && ask("/api/question")); // gone back to
ask("/api/question");
