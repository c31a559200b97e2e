"""Read many mailboxes with many Celery workers, each mailbox by one worker at a time.

    celery -A celery_worker worker
    celery -A celery_worker beat

Settings come from the environment: ``REDIS_URL``, ``FERNET_KEY`` (of ``Fernet.generate_key()``)
and ``CMSBS_CONF``, the path of a cmsbs-conf. A message is handled first and marked as read
afterwards: a worker that is killed in between leaves it to another one, and loses none. One that
does not come or cannot be handled stays unread, and the others do not wait for it.
"""

# pyright: basic
# mypy: disable-error-code="untyped-decorator,misc"
# celery has no types
from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import redis
from celery import Celery, Task

from exo_imap_oauth import load_config
from exo_imap_oauth.errors import (
    ConnectionFailed,
    ExoImapOAuthError,
    MailboxNotConnected,
    SessionExpired,
    Throttled,
)
from exo_imap_oauth.imap import ok
from exo_imap_oauth.mail import message
from exo_imap_oauth.redis_cache import RedisTokenCache

if TYPE_CHECKING:
    import imaplib

    from redis.lock import Lock

    from exo_imap_oauth import InboxConfig
    from exo_imap_oauth.mail import Mail

LEASE = 120.0  # s for which a mailbox is ours without a sign of life: one message takes less
LONGEST_PAUSE = 300.0  # s between two tries
OF_ALL_MESSAGES = (ConnectionFailed, MailboxNotConnected, SessionExpired, Throttled)

logger = logging.getLogger(__name__)
client = redis.Redis.from_url(os.environ["REDIS_URL"])
tokens = RedisTokenCache.from_url(os.environ["REDIS_URL"], key=os.environ["FERNET_KEY"].encode())
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
        inbox = load_config(os.environ["CMSBS_CONF"])[name]
        # From both ends by turns: a message at which the connection ends keeps none waiting.
        unread = handle_unread(inbox, lock, backwards=task.request.retries % 2 == 1)
    except ExoImapOAuthError as error:
        if not error.retryable:
            raise  # its text says how to fix it
        pause = min(2.0**task.request.retries, LONGEST_PAUSE)
        raise task.retry(exc=error, countdown=error.retry_after or pause) from None
    finally:
        if lock.owned():
            lock.release()
    if unread:
        raise RuntimeError(f"{name}: these messages stay unread, as logged: {', '.join(unread)}")


def handle_unread(inbox: InboxConfig, lock: Lock, *, backwards: bool) -> list[str]:
    """Handle each unread message, then mark it; the UIDs of those that stay unread."""
    unread: list[str] = []
    with inbox.open(token=inbox.token_source(cache=tokens)) as imap:
        (uidvalidity,) = imap.response("UIDVALIDITY")[1]
        (uids,) = ok(imap.uid("SEARCH", "UNSEEN"))
        for uid in uids.decode().split()[:: -1 if backwards else 1]:
            lock.reacquire()  # raises if the lease has lapsed: then somebody else goes on
            try:
                mail = fetched(imap, uid)
                mail.folder, mail.uidvalidity = inbox.folder, int(uidvalidity or 0)
                handle(inbox, mail)
                ok(imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)"))
            except OF_ALL_MESSAGES:
                raise
            except Exception:  # whatever is wrong with one message, the others are handled
                logger.exception("%s: message %s stays unread", inbox.name, uid)
                unread.append(uid)
    return unread


def fetched(imap: imaplib.IMAP4, uid: str) -> Mail:
    """A message, wherever it stands in what the server says."""
    mail = message(imap.uid("FETCH", uid, "(UID BODY.PEEK[])"))
    if mail is None:
        raise LookupError("the server did not send the message; it may come later")
    return mail


def handle(inbox: InboxConfig, mail: Mail) -> None:
    """What this example does with a message: put what your program does here.

    It may get one twice. Host, mailbox and folder of the inbox with ``mail.uidvalidity`` and
    ``mail.uid`` are what to remember it by.
    """
    print(f"{inbox.name}: {mail['Subject']}", flush=True)
