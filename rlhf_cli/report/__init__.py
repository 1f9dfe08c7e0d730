"""Pages that explain a run or a sweep, each one HTML file without a script.

Python gathers what a page shows; `templates/` holds the HTML, one template a page.

page             render a template
writing          choose the page for some folders, and write it
run_page         the page of a run
comparison_page  the page of several runs
supervised_page  the page of a run of sft, dpo or reward train
losses_page      the page of several such runs
sweep_page       the page of a sweep
rounds_page      the page of several rounds of feedback
curves           the charts of a run and of several runs
series           a metric as a series; long runs are averaged
answers          the completions of the held-out prompts, by change
sides_page       the page of `rlhf eval`: two policies on the same prompts
votes            the votes of people on a run's completions
card             the model card of a merged model
frontier         reward against KL, with the points of a sweep
table            tables as data
texts            texts cut to a length, settings in lines, two texts with their differences marked
"""
