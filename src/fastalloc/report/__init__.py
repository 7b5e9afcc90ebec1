"""What a dataset says: verdict table, sentences, HTML report. Reads only what the store wrote."""

from fastalloc.called import can_be_called

can_be_called(__name__, "fastalloc.api", "report")
