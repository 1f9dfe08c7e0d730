"""Draw pictures as SVG or as characters of a terminal. No library, no script.

pictures  what can be drawn, as data: charts of series, bars, heat maps
svg       any picture as an <svg> element
chart     a chart as SVG: axes, marks and series
series    one series of a chart: lines with bands, points with error bars
hover     values where the pointer rests
bars      grouped bars as SVG
heat      a heat map as SVG
frame     the style, title, axes and legend that all SVG pictures share
scale     map values to places; choose round ticks
words     measure, shorten, wrap and escape texts
terminal  a chart or bars in characters of a terminal
"""
