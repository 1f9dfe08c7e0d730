"""Pictures and pages that explain a run: pure functions from numbers to text; no library, no network, no files.

chart   lines, points and bars as an SVG
scale   from values to places on a picture; round ticks
words   the width of a text, and texts that are safe inside a picture or a page
page    one self-contained HTML page of sections with pictures
"""
