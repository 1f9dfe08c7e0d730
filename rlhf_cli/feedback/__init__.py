"""People's feedback: pairs of completions, votes on them, and the win rate that they show. No torch.

pairs       a prompt with two completions, and a file of them
preference  columns of a preference row: a and b, or chosen and rejected, in the formats of TRL
from_runs   the pairs of a run (policy against reference) and of two runs
readable    a text as a person may read it, on a terminal and on a page
votes       the file of votes: one line a vote, never rewritten, written by several at once
session     ask one rater pair after pair, and write the votes down
desk        the same for the pairs that a run leaves while it trains
annotator   a simulated annotator, who votes by a hidden reward
choice      which pair is asked next, with the chance of it: at random, or where the interval shrinks most
win_rate    the win rate that votes show, with its interval
agreement   Cohen's and Fleiss' kappa
tally       all that the votes of a file say
saying      the same in words
export      votes as preference rows, to train on
results     what labelling has shown, file by file
readings    at each step of a run, the pairs that it made and the votes that it read
queue       make pairs while a run trains, read the votes, and say as metrics what they show
web         the labelling page, an extra
"""
