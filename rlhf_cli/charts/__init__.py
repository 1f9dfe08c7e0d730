"""The drawing kit: the same pictures as SVG and as characters of a terminal. No library, no script.

chart     lines, points and bars as an SVG
bars      grouped bars
heat      numbers by two settings, as shaded cells
frame     what every picture shares: its style, axes and legend
scale     from values to places on a picture; round ticks
words     the width of a text, and texts that are safe inside a picture or a page
terminal  the pictures in the characters of a terminal
"""
