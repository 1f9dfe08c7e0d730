"""Where prompts come from; one source, one file.

jsonl     one JSON object a line
csv       a header, then a record a row
parquet   columns, read batch by batch; an extra
text      one prompt a line
hub       a data set of the Hugging Face hub; an extra
mixture   several of these, each with its share

A source of ours is a frozen model: `kind` names it, `records(held_out=...)` gives its rows as they stand there.

settings  what all sources share
files     the files that a path or a pattern names
extras    the libraries of the extras, imported where they are needed
template  a prompt made from columns: {name} in a text
shape     a record becomes a prompt row
reading   the rows of a source: filtered, once each, and what was left out
split     which rows are held out, by their hash; the fingerprint of all
order     which prompts belong to which step: a pure function of seed and step

The folder prompts/ holds prompt files of our own.
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.data.mixture import Mixture, One

Data = Annotated[One | Mixture, Field(discriminator="kind")]
