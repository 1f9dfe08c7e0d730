"""The data: where prompts come from. One source, one file.

jsonl       one JSON object per line
csv         a header, then one row per line
parquet     columns, read batch by batch; an extra
text        one prompt per line
hub         a data set of the Hugging Face hub; an extra
labelled    pairs from texts with labels, a better one and a worse one
mixture     several sources, each with a weight

A source is a frozen model: `kind` names it, `raw_rows(held_out=...)` yields its rows.

source      the settings and methods that all sources share; import the library of an extra
files       the files that a path or a pattern names
template    a text with the names of columns in braces: {name}
conversion  from a raw row to a prompt row
messages    the messages of a chat, as rows hold them
preference  a chosen and a rejected completion of a prompt
reading     read the rows of a source, and count those that are left out
split       choose the held-out rows by their hash; the fingerprint of all rows
order       which prompts belong to which step: a pure function of seed and step

The folder prompts/ holds the prompt files of the package.
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.data.mixture import Mixture, SingleSource

Data = Annotated[SingleSource | Mixture, Field(discriminator="kind")]
