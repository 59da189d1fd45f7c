from bethrou.events import Event, LinkClosed
from bethrou.ops.event_feed import EventFeed
from ops.controlled import ENDED, OPENED, PEER

CLOSED = LinkClosed(PEER, "/ip4/192.0.2.7/tcp/4000", "closed here")


def test_the_log_comes_first_and_everybody_hears_all_until_the_end() -> None:
    told: list[tuple[str, Event]] = []
    feed = EventFeed(lambda event: told.append(("log", event)))
    feed(OPENED)
    end_of_one = feed.subscribe(lambda event: told.append(("one", event)))
    feed.subscribe(lambda event: told.append(("two", event)))
    feed(ENDED)
    end_of_one()
    end_of_one()
    feed(CLOSED)
    assert told == [
        ("log", OPENED),
        ("log", ENDED),
        ("one", ENDED),
        ("two", ENDED),
        ("log", CLOSED),
        ("two", CLOSED),
    ]


def test_a_subscriber_may_leave_from_within() -> None:
    told: list[Event] = []
    feed = EventFeed(lambda event: None)

    def once(event: Event) -> None:
        told.append(event)
        end()

    end = feed.subscribe(once)
    feed.subscribe(told.append)
    feed(OPENED)
    feed(ENDED)
    assert told == [OPENED, OPENED, ENDED]
