"""The text that somebody posted, as it was before a mailer, a web page, a log store or a terminal encoded it."""

import re

_QUOTED_PRINTABLE = re.compile(
    r"(?:gfp_mask|gfp|order|adj|swap  ?|kB |cpuset|nodemask|mems_allowed|hugepages_\w+)=(?:\n[>| \t]*)?3D"
)
# At most 76 characters a line [RFC 2045]; "?=" ends an encoded word of a mail's head [RFC 2047], "==" a ruler, as of
# KASAN [mm/kasan/report.c: start_report]: "=" itself is written =3D.
_FOLDED = re.compile(r"^.{59,75}[^?=\n]=$", re.MULTILINE)
_SOFT_BREAK = re.compile(r"=\n(?:[>|][>| \t]*)?")
_NOT_A_BYTE = re.compile(rb"=(?![0-9A-Fa-f]{2})")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours of a terminal
_ENTITY = re.compile(r"&(?:gt|lt|amp|quot|nbsp|#\d+);")
_OTHER_ESCAPES = (
    (re.compile(r"#011|\\x09"), "\t"),
    (re.compile(r"#033|\\x1b"), ""),
    (re.compile("[\xa0\u2007\u202f]"), " "),
    (re.compile(r"\\u003[cC]"), "<"),  # of JSON
    (re.compile(r"\\u003[eE]"), ">"),
    (re.compile(r"\\(?=[*_()\[\]<>])"), ""),  # of Markdown, which also takes 1*4kB 1*8kB for emphasis
    (re.compile(r"(?<=\d)_(?=\d+[kK]B\b)"), "*"),
    (re.compile(r"^[ \t]*`([^`\n]*)`[ \t]*$", re.MULTILINE), r"\1"),
    (re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x7f\xad\u200b\u2060]"), ""),  # what a terminal or a mailer left behind
)
# A record of a container, of journalctl -o json or of a log store: the line is its message.
_JSON = re.compile(r'^\s*\{[^\n]*"(?:log|MESSAGE|message|msg|textPayload)"\s*:', re.MULTILINE)
_MESSAGES = ("log", "MESSAGE", "message", "msg", "textPayload")
# A web page's own markup; the kernel's "<IRQ>" and "[<c0144b44>]" are none.
_MARKUP = re.compile(r"</(?:span|div|p|pre|code|td|li|font|tt)>|<br\s*/?>", re.IGNORECASE)
_QUOTED_LINE = re.compile(
    r'^[ \t]*"([^"\n]*)",?[ \t]*$', re.MULTILINE
)  # of a list of lines, as of Ansible's stdout_lines
_LINE_END = re.compile(r"(?:<br\s*/?>|</(?:div|p|li|tr)>)(?:[ \t]*\n)?", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:a|b|blockquote|br|code|div|em|font|hr|i|li|ol|p|pre|span|strong|table|tbody|td|th|tr|tt|u|ul|wbr)\b[^<>]*>",
    re.IGNORECASE,
)


def plain(raw: str) -> str:
    """Undoes quoted-printable, JSON records, markup, entities and escapes; ``\\n`` ends each line. Its lines keep what
    a log wrote before them."""
    raw = raw.replace("\r\n", "\n").replace("\r", "\n")
    if _QUOTED_PRINTABLE.search(raw) or len(_FOLDED.findall(raw)) >= 2:
        raw = _decode_quoted_printable(raw)
    if _JSON.search(raw):
        raw = "\n".join(map(_message, raw.split("\n")))
    if len(_QUOTED_LINE.findall(raw)) > raw.count("\n") / 2:
        raw = _QUOTED_LINE.sub(r"\1", raw)
    if _MARKUP.search(raw):
        raw = _TAG.sub("", _LINE_END.sub("\n", raw))
    if _ENTITY.search(raw):
        from html import unescape

        raw = unescape(raw)
    for pattern, to in _OTHER_ESCAPES:
        raw = pattern.sub(to, raw)
    return raw


def _message(line: str) -> str:
    """The message of a JSON record, any other line as it is."""
    if not line.lstrip().startswith("{"):
        return line
    import json

    try:
        record = json.loads(line)
    except ValueError:
        return line
    found = next((record[name] for name in _MESSAGES if isinstance(record.get(name), str)), line)
    return found.rstrip("\n").replace("\n", "#012")


def _decode_quoted_printable(raw: str) -> str:
    import quopri

    data = _NOT_A_BYTE.sub(b"=3D", _SOFT_BREAK.sub("", raw).encode("utf-8", "surrogateescape"))
    decoded = quopri.decodestring(data)
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        return decoded.decode("latin-1")
