"""What Schemathesis cannot know by itself: how to write many messages, one JSON object a line (the schema Line)."""

import base64
import json

import schemathesis
from hypothesis import strategies as st

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
printable = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)
values = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
line = st.fixed_dictionaries(
    {},
    optional={"content_type": printable, "key": printable, "headers": st.dictionaries(names, values, max_size=4)},
)
text = st.fixed_dictionaries({"body": st.text(st.characters(exclude_categories=["Cs"]))})
data = st.fixed_dictionaries({"body_base64": st.binary(max_size=50).map(lambda b: base64.b64encode(b).decode())})
message = st.builds(lambda body, more: body | more, text | data, line)
many = st.lists(message, min_size=1, max_size=20).map(lambda all: "\n".join(json.dumps(m) for m in all).encode())

schemathesis.openapi.media_type("application/x-ndjson", many)


@schemathesis.hook
def before_load_schema(_, document):
    """Leaves out the document's example, which is text: where there is a strategy, only bytes can be sent."""
    content = document["paths"]["/v1/logs/{log}/messages"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    del content["example"]
