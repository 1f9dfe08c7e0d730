"""Pages that explain a run or a sweep, each one HTML file without a script.

page             one self-contained HTML page of sections with pictures
run_page         the page of a run
comparison_page  the page of several runs
sweep_page       the page of a sweep
curves           which metrics make which charts; long runs averaged
frontier         reward against KL, of the points of a sweep
difference       two texts, with what only one of them has marked
elements         lists and texts beside one another, as HTML
table            a table as HTML
"""
