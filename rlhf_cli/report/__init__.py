"""Pictures and pages that explain a run: pure functions from numbers to text; no library, no network.

chart   lines, points and bars as an SVG
bars    grouped bars
heat    numbers by two settings, as shaded cells
table   a table as HTML
frontier  reward against KL, of the points of a sweep
frame   what every picture shares: its style, axes and legend
scale   from values to places on a picture; round ticks
words   the width of a text, and texts that are safe inside a picture or a page
text    the same pictures in the characters of a terminal
page    one self-contained HTML page of sections with pictures

run_page         the page of a run
comparison_page  the page of several runs
curves           which metrics make which charts; long runs averaged
difference       two texts, with what only one of them has marked
elements         tables, lists and texts beside one another, as HTML
sweep_page       the report of a sweep, which it also writes
"""
