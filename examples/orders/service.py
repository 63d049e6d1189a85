#!/usr/bin/env python3
"""The shop's service. It writes with HTTP, through Drainmark, and reads with SQL, from a standby. It needs psycopg2.

POST /orders                  {"customer": "ann", "sku": "pear", "count": 2}: 202 with the order's number
GET  /orders/NUMBER?id=ID     200 applied, 409 rejected, 202 pending
GET  /balances/NAME?id=ID     200 the balance, with the order in it, 202 pending
"""
import argparse
import json
import re
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg2
import psycopg2.extras

# Each is one statement, so one state of the standby: if it holds the record, it shows the row.
ORDER = """SELECT drainmark.holds(%(id)s) AS held, drainmark.rejected(%(id)s) AS reason,
    (SELECT row_to_json(o) FROM shop.orders o WHERE number = %(name)s) AS found"""
BALANCE = """SELECT drainmark.holds(%(id)s) AS held, drainmark.rejected(%(id)s) AS reason,
    (SELECT row_to_json(b) FROM shop.balances b WHERE customer = %(name)s) AS found"""
PATIENCE = 2  # seconds that a reader waits for its own write, unless it says "Prefer: wait=N"


def append(drainmark, order, number):
    """Appends an order, and returns its record's id. It is sent again with the same key, so it is one order."""
    request = urllib.request.Request(
        drainmark + "/v1/logs/orders/messages", json.dumps(order).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": f'"{number}"'})
    for pause in (0.1, 0.5, 2, None):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)["id"]
        except urllib.error.HTTPError as error:  # an OSError too
            if error.code not in (408, 503, 504) or pause is None:
                raise
        except OSError:
            if pause is None:
                raise
        time.sleep(pause)


class Standby:
    """One connection, which threads take turns at, and which is opened anew when it breaks. Use a pool for more."""

    def __init__(self, url):
        self.url, self.lock, self.connection = url, threading.Lock(), None

    def ask(self, query, **parameters):
        with self.lock:
            for last in (False, True):
                try:
                    return self.once(query, parameters)
                except (psycopg2.OperationalError, psycopg2.InterfaceError):
                    if self.connection:
                        self.connection.close()
                    if last:
                        raise

    def once(self, query, parameters):
        if self.connection is None or self.connection.closed:
            self.connection = psycopg2.connect(self.url, connect_timeout=5)
            self.connection.set_session(autocommit=True, readonly=True)
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        if self.path != "/orders":
            return self.answer(404, {"error": "there are /orders"})
        try:
            order = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except ValueError:
            return self.answer(400, {"error": "an order is JSON"})
        number = str(uuid.uuid4())
        try:
            record = append(self.server.drainmark, order, number)
        except OSError as error:  # unless the status says that it was refused, it may be accepted
            refused = 400 <= getattr(error, "code", 0) < 500
            return self.answer(error.code if refused else 503, {"error": str(error), "number": number})
        where = f"/orders/{number}?id={record}"
        self.answer(202, {"state": "accepted", "number": number, "id": record}, Location=where)

    def do_GET(self):
        url = urlsplit(self.path)
        kind, _, name = url.path.lstrip("/").partition("/")
        query = {"orders": ORDER, "balances": BALANCE}.get(kind)
        if not query:
            return self.answer(404, {"error": "there are /orders/NUMBER and /balances/NAME"})
        try:
            self.answer(*self.wait(query, unquote(name), parse_qs(url.query).get("id", [None])[0]))
        except psycopg2.DataError:
            self.answer(400, {"error": "this is no id"})
        except psycopg2.Error as error:
            print(error, file=sys.stderr)
            self.answer(503, {"error": "the standby does not answer"})

    def wait(self, query, name, record):
        """Asks until the standby holds the record, and returns what is to be answered."""
        wait = re.fullmatch(r"wait=(\d{1,2})", self.headers.get("Prefer", ""))
        end = time.monotonic() + (int(wait[1]) if wait else PATIENCE)
        while True:
            row = self.server.standby.ask(query, id=record, name=name)
            if row["reason"] is not None:
                return 409, {"state": "rejected", "reason": row["reason"]}
            if row["held"] or record is None:
                return (200, row["found"]) if row["found"] else (404, {"error": f"there is no {name}"})
            if time.monotonic() > end:
                return 202, {"state": "pending"}
            time.sleep(0.02)

    def answer(self, status, body, **headers):
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--drainmark", required=True, help="URL of a backend")
    options.add_argument("--standby", required=True, help="URL of a standby, or of the primary")
    options.add_argument("--port", type=int, required=True)
    options = options.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.drainmark, server.standby = options.drainmark, Standby(options.standby)
    print(f"listening on {options.port}", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
