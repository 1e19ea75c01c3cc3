"""The same with trackers for servers, from PyPI: `python server.py TRACKER GATEWAY WRITE_KEY` does the list of `server.mjs`."""

import json
import logging
import sys
from datetime import datetime, timedelta, timezone

# A number that JavaScript would round: Python's trackers send it as it is.
LARGE = 9007199254740993
PRODUCT = {"sku": "A-1", "price": 19.5, "list": "Käse & Früchte", "tags": ["new", "ü"], "large": LARGE}
ORDER = {"order": "o-1", "total": 39, "paid": True}
TRAITS = {"plan": "pro"}
STEPS = 45
EARLIER = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)

errors = []


class Heard(logging.Handler):
    """Trackers say in the log what they could not send."""

    def emit(self, record):
        errors.append(f"{record.name}: {record.getMessage()}")


logging.getLogger().addHandler(Heard(level=logging.WARNING))


def posthog(gateway, key):
    from posthog import Posthog

    client = Posthog(key, host=gateway, flush_at=20, gzip=True, on_error=lambda error, _: errors.append(repr(error)))
    client.capture("product_viewed", distinct_id="user-7", properties=PRODUCT, timestamp=EARLIER)
    client.set(distinct_id="user-7", properties=TRAITS)
    for n in range(STEPS):
        client.capture("step", distinct_id="user-7", properties={"n": n})
    client.capture("purchase", distinct_id="user-7", properties=ORDER)
    client.shutdown()


def segment(gateway, key):
    from segment.analytics.client import Client

    client = Client(key, host=gateway, upload_size=20, gzip=True, on_error=lambda error, _: errors.append(repr(error)))
    client.track("user-7", "product_viewed", PRODUCT, timestamp=EARLIER)
    client.identify("user-7", TRAITS)
    for n in range(STEPS):
        client.track("user-7", "step", {"n": n})
    client.track("user-7", "purchase", ORDER)
    client.shutdown()


def mixpanel(gateway, key):
    from mixpanel import BufferedConsumer, Mixpanel

    # Its consumer has one scheme, https, unless whole addresses are given.
    consumer = BufferedConsumer(
        max_size=20,
        events_url=f"{gateway}/track",
        people_url=f"{gateway}/engage",
        import_url=f"{gateway}/import",
        groups_url=f"{gateway}/groups",
    )
    client = Mixpanel(key, consumer=consumer)
    client.track("user-7", "product_viewed", {**PRODUCT, "time": EARLIER.timestamp()})
    client.people_set("user-7", TRAITS)
    for n in range(STEPS):
        client.track("user-7", "step", {"n": n})
    client.track("user-7", "purchase", ORDER)
    consumer.flush()


def snowplow(gateway, key):
    from snowplow_tracker import Emitter, SelfDescribing, SelfDescribingJson, Subject, Tracker

    host = gateway.removeprefix("http://")
    failed = lambda _, events: errors.append(f"{len(events)} were not taken")
    emitter = Emitter(host, protocol="http", batch_size=20, on_failure=failed)
    subject = Subject().set_user_id("user-7")
    client = Tracker("server", emitter, app_id=key, subject=subject)

    def track(event, data, at=None):
        body = SelfDescribingJson(f"iglu:com.shop/{event}/jsonschema/1-0-0", data)
        client.track(SelfDescribing(body, true_timestamp=at))

    track("product_viewed", PRODUCT, int(EARLIER.timestamp() * 1000))
    for n in range(STEPS):
        track("step", {"n": n})
    track("purchase", ORDER)
    client.flush()


TRACKERS = {"posthog": posthog, "segment-analytics-python": segment, "mixpanel": mixpanel, "snowplow-tracker": snowplow}
name, gateway, key = sys.argv[1:]
TRACKERS[name](gateway, key)
print(json.dumps({"earlier_ms": int(EARLIER.timestamp() * 1000), "errors": errors}))
