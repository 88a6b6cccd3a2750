"""The few line drawings of the page, 20 units square, drawn in the colour of the text around them."""

PATHS = {
    "trash": "M4 6h12M8 6V4.5h4V6m-6.5 0 .7 10h7.6l.7-10M8.5 9v4.5M11.5 9v4.5",
    "left": "M12 5l-5 5 5 5",
    "right": "M8 5l5 5-5 5",
    "again": "M15.5 8.5A6 6 0 1 0 16 11M15.8 4.5v4h-4",
    "copy": "M7.5 7.5V5.2a1.2 1.2 0 0 1 1.2-1.2h6.1A1.2 1.2 0 0 1 16 5.2v6.1a1.2 1.2 0 0 1-1.2 1.2h-2.3"
    "M5.2 7.5h6.1a1.2 1.2 0 0 1 1.2 1.2"
    "v6.1a1.2 1.2 0 0 1-1.2 1.2H5.2A1.2 1.2 0 0 1 4 14.8V8.7a1.2 1.2 0 0 1 1.2-1.2z",
    "plus": "M10 4.5v11M4.5 10h11",
    "down": "M10 3.5v9M6.5 9.5l3.5 3.5 3.5-3.5M4 16h12",
    "search": "M8.7 4a4.7 4.7 0 1 0 0 9.4 4.7 4.7 0 0 0 0-9.4zM12.2 12.2l4 4",
    "minus": "M4.5 10h11",
    "library": "M4.5 4v12M8 4v12M11.5 4.5l4 11.2",
    "chat": "M4 5.2h12v8.3H9.5L6 16.2v-2.7H4z",
    "page": "M5.5 3.5h6l3.5 3.5v9.5h-9.5zM11.5 3.5V7H15",
    "thumbs": "M4 4h4.5v5H4zM11.5 4H16v5h-4.5zM4 11.5h4.5v5H4zM11.5 11.5H16v5h-4.5z",
    "keys": "M3 6h14v8.5H3zM6 9h.1M9 9h.1M12 9h.1M14.5 9h.1M7 12h6",
    "theme": "M10 3.5a6.5 6.5 0 1 0 0 13zM10 3.5a6.5 6.5 0 0 1 0 13",
    "sooner": "M5 12l5-5 5 5",
    "later": "M5 8l5 5 5-5",
    "tag": "M4 4.5h5.2l7 7-4.9 4.9-7.3-7.2zM7 7.3h.01",
    "pencil": "M4 16l.8-3.4 8.4-8.4 2.6 2.6-8.4 8.4zM11.6 5.8l2.6 2.6",
    "lock": "M5.5 9h9v7h-9zM7.3 9V6.7a2.7 2.7 0 0 1 5.4 0V9",
    "close": "M5.5 5.5l9 9M14.5 5.5l-9 9",
    "gear": "M4 6h6M14 6h2M4 14h2M10 14h6M10 6a2 2 0 1 0 4 0 2 2 0 1 0-4 0M6 14a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
    "person": "M10 4.2a2.9 2.9 0 1 0 0 5.8 2.9 2.9 0 0 0 0-5.8zM4.5 16.5c.6-3.2 2.6-4.6 5.5-4.6s4.9 1.4 5.5 4.6",
    "share": "M10 12V3.5M7 6.2l3-2.7 3 2.7M6.5 9H5v7.5h10V9h-1.5",
    "more": "M5 10h.01M10 10h.01M15 10h.01",
    "history": "M10 6v4.2l2.7 1.6M4 10a6 6 0 1 0 1.9-4.4L4 7.2M4 4v3.2h3.2",
}


def icon(name: str) -> str:
    """An inline drawing, hidden from screen readers: the button around it carries the label."""
    return (
        '<svg class="icon" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.4" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="{PATHS[name]}"/></svg>'
    )
