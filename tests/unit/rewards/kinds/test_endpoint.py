"""Where prompts may be sent, and the token."""

from __future__ import annotations

import pytest

from rlhf_cli.errors import UserError
from tests.unit.rewards.support import made, refusal


@pytest.mark.case(60)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/", "url must be https://HOST/..., or http:// on this machine"),
        ("localhost:8001", "url must be https://HOST"),
        ("http://scores.example/", "url is http and not this machine"),
        ("http://127.scores.example/", "url is http and not this machine"),
        ("http://192.168.0.1/", "url is http and not this machine"),
        *(
            (f"http://{host}/", "url is http and not this machine")
            for host in (
                "127.0.0.1.scores.example",
                "127.evil",
                "localhost.scores.example",
                "localhost.localdomain",
                "2130706433",
                "0x7f000001",
                "0177.0.0.1",
                "127.1",
                "127.0.0.1.",
                "127.000.000.001",
                "0.0.0.0",
                "[::]",
                "[::ffff:10.0.0.1]",
                "[2001:db8::1]",
                "[fe80::1]",
                "ⓛocalhost",
                "１２７.0.0.1",
                "127。0。0。1",
                "128.0.0.1",
                "xn--localhost-x",
            )
        ),
        ("http://127.0.0.1@scores.example/", "url must hold no password"),
        ("http://127.0.0.1:80@scores.example/", "url must hold no password"),
        ("http://@127.0.0.1/", "url must hold no password"),
        ("http://127.0.0.1\\@scores.example/", "url must hold no white space and no backslash"),
        ("http://local\thost/", "url must hold no white space"),
        ("http://127.0.0.1 .scores.example/", "url must hold no white space"),
        ("http://localhost:99999/", "Port out of range"),
        ("https://me:secret@scores.example/", "url must hold no password"),
    ],
)
def test_where_prompts_may_be_sent(url: str, said: str) -> None:
    assert said in refusal("http", url=url)
    assert said in refusal("judge", url=url, model="m")


@pytest.mark.parametrize(
    ("name", "url", "allowed"),
    [
        ("OPENAI_API_KEY", "https://api.openai.com/v1", True),
        ("OPENAI_API_KEY", "https://me.openai.azure.com./v1", True),
        ("OPENAI_API_KEY", "http://localhost:8000/v1", True),
        ("OPENAI_API_KEY", "https://scores.example/", False),
        ("openai_api_key", "https://openai.com.scores.example/", False),
        ("OPENAI_API_KEY", "https://evilopenai.com/", False),
        ("HF_TOKEN", "https://x.endpoints.huggingface.cloud/", True),
        ("HF_TOKEN", "https://api.openai.com/v1", False),
        ("AWS_SECRET_ACCESS_KEY", "https://scores.example/", False),
        ("GITHUB_TOKEN", "https://scores.example/", False),
        ("NPM_TOKEN", "https://scores.example/", False),
        ("MISTRAL_API_KEY", "https://api.mistral.ai/v1", True),
        ("MISTRAL_API_KEY", "https://scores.example/", False),
        ("DATABASE_URL", "https://scores.example/", False),
        ("DATABASE_URL", "http://localhost:8000/", True),
        ("SCORES_TOKEN", "https://scores.example/", True),
    ],
)
def test_a_known_services_token_goes_to_no_other(name: str, url: str, allowed: bool) -> None:
    if allowed:
        made("judge", url=url, model="m", token_env=name)
        return
    said = refusal("judge", url=url, model="m", token_env=name)
    assert f"token_env: {name} is for " in said
    assert "and would be sent to " in said


def test_it_says_that_the_token_leaves_the_machine() -> None:
    source = made("http", url="https://scores.example/a", token_env="SCORES_TOKEN")
    assert source.notice() == (
        "reward: prompts and completions, and the token in SCORES_TOKEN, are sent to scores.example"
    )


def test_it_says_that_prompts_leave_the_machine() -> None:
    assert made("http", url="https://scores.example/x").notice() == (
        "reward: prompts and completions are sent to scores.example"
    )
    assert made("http", url="http://scores.example/x", insecure=True).notice()
    assert made("http", url="http://localhost:1/x").notice() is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost:1",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1:8001",
        "127.9.9.9",
        "[::1]:8001",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
def test_http_will_do_for_this_machine(host: str) -> None:
    assert made("http", url=f"http://{host}/score").notice() is None


UNSENDABLE = "holds a line end or another character that no token has"


@pytest.mark.parametrize(
    ("token", "wrong"),
    [(None, "is not set"), ("", "is not set"), ("tkn-5f0c9a\n", UNSENDABLE), ("tkn-é", UNSENDABLE)],
)
def test_the_token_is_there_and_can_be_sent(token: str | None, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = made("http", url="https://scores.example/x", token_env="SCORES_TOKEN")
    monkeypatch.setenv("SCORES_TOKEN", "tkn-5f0c9a")
    reward.check("reward")
    monkeypatch.delenv("SCORES_TOKEN")
    if token is not None:
        monkeypatch.setenv("SCORES_TOKEN", token)
    with pytest.raises(UserError) as caught:
        reward.check("reward")
    line = f"the environment variable SCORES_TOKEN {wrong} (reward.token_env); fix: export it"
    assert caught.value.line() == line
