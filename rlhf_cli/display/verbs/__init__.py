"""The results of the verbs that read or try something: one verb, one file.

chat     what a person types, and answers that grow
check    one step of a run, and whether to go
data     the prompts and lengths of `rlhf data show`
doctor   what is wrong with a run, and the facts of a machine
eval     a policy beside another
explain  the settings of a run: values, what sets them, meanings
fork     a fork beside its parent
harness  the table of lm-eval
oracle   the tables and the plot of the optimum
reward   the table of `rlhf reward test`
runs     the table of runs

verify_gradient  the expected update of a run beside the exact gradient
"""
