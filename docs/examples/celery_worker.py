"""Read many mailboxes with many Celery workers, each mailbox by one worker at a time.

    celery -A celery_worker worker
    celery -A celery_worker beat

Settings come from the environment: ``REDIS_URL``, ``FERNET_KEY`` (of ``Fernet.generate_key()``)
and ``CMSBS_CONF``, the path of a cmsbs-conf. A message is handled first and marked as read
afterwards: a worker that is killed in between leaves it to another one, and loses none.
"""

# pyright: basic
# mypy: disable-error-code="untyped-decorator,misc"
# celery has no types
from __future__ import annotations

import os
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

import redis
from celery import Celery, Task

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import ExoImapOAuthError
from exo_imap_oauth.imap import ok
from exo_imap_oauth.redis_cache import RedisTokenCache

if TYPE_CHECKING:
    from email.message import EmailMessage

    from redis.lock import Lock

    from exo_imap_oauth import InboxConfig

LEASE = 120.0  # s for which a mailbox is ours without a sign of life: one message takes less
LONGEST_PAUSE = 300.0  # s between two tries

client = redis.Redis.from_url(os.environ["REDIS_URL"])
tokens = RedisTokenCache(client, key=os.environ["FERNET_KEY"].encode())
app = Celery("celery_worker", broker=os.environ["REDIS_URL"])
app.conf.update(
    beat_schedule={"look": {"task": "celery_worker.read_all", "schedule": 60.0}},
    task_ignore_result=True,
    worker_prefetch_multiplier=1,  # a long mailbox keeps no other one waiting
)


@app.task(name="celery_worker.read_all")
def read_all() -> None:
    """Have every mailbox read."""
    for name in load_config(os.environ["CMSBS_CONF"]):
        read_inbox.delay(name)


@app.task(name="celery_worker.read_inbox", bind=True, acks_late=True, max_retries=10)
def read_inbox(task: Task, name: str) -> None:
    """Handle what is unread in a mailbox, unless another worker does."""
    lock = client.lock(f"inbox:{name}", timeout=LEASE, blocking=False)
    if not lock.acquire():
        return
    try:
        handle_unread(load_config(os.environ["CMSBS_CONF"])[name], lock)
    except ExoImapOAuthError as error:
        if not error.retryable:
            raise  # its text says how to fix it
        pause = min(2.0**task.request.retries, LONGEST_PAUSE)
        raise task.retry(exc=error, countdown=error.retry_after or pause) from None
    finally:
        if lock.owned():
            lock.release()


def handle_unread(inbox: InboxConfig, lock: Lock) -> None:
    """Handle each unread message, then mark it."""
    with inbox.open(token=inbox.token_source(cache=tokens)) as imap:
        (uids,) = ok(imap.uid("SEARCH", "UNSEEN"))
        for uid in uids.decode().split():
            lock.reacquire()  # raises if the lease has lapsed: then somebody else goes on
            (part, *_) = ok(imap.uid("FETCH", uid, "(BODY.PEEK[])"))
            if part is not None:  # else somebody removed it
                handle(inbox, message_from_bytes(part[1], policy=policy.default))
            ok(imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)"))


def handle(inbox: InboxConfig, message: EmailMessage) -> None:
    """What this example does with a message: put what your program does here."""
    print(f"{inbox.name}: {message['Subject']}", flush=True)
