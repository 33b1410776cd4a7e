"""Titles, attributes and ids that try to break out of a page."""

TITLES = (
    "</script><script>document.title='broken'</script>",
    "<b>bold</b>",
    "Tent & pegs",
    "שלום \u202e עולם \u2069\u202c\u2066 abc",
    "Rocket 🚀 stove",
    "%{x} $\\alpha$",
    "<img src=x onerror=alert(1)>",
    "'\"><svg/onload=alert(1)>",
    "two\nlines",
    "]]><!-- -->",
)
GENRES = ("<i>Camp</i> a", "<i>Camp</i> b", "Kitchen a", "Kitchen b", "Kitchen c")
USERS = ("<u>anna</u>", "ben", "cár\u2028la", "דן", "eva&", "finn", "gita", "hugo")
