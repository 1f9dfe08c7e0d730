"""The labelling page, served on this machine alone by starlette and uvicorn, an extra.

app      what the page asks for, and what it answers
guard    who may ask: a token, a Host allow-list, an Origin check; no page may load or keep anything
serving  a port, a link, and a server until Ctrl-C
"""
