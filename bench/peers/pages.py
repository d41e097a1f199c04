"""A patient's entries by requests: one session, the server's own `next` links."""

import requests

from task import PAGE_SIZE, everything, headers

session = requests.Session()
session.headers.update(headers)


def pages(person, since):
    url, parameters = everything(person), {"_count": PAGE_SIZE}
    if since:
        parameters["_since"] = since
    while url:
        response = session.get(url, params=parameters, timeout=60)
        response.raise_for_status()
        bundle = response.json()
        yield bundle.get("entry", [])
        url = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)
        # The link has them already.
        parameters = None
