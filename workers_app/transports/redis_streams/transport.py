"""The transports: plain, with TLS, and found by Sentinel."""

from __future__ import annotations

from typing import Any

import redis
from kombu.utils.url import url_to_parts
from redis import sentinel

from workers_app.transports.redis_streams.channel import Channel, lists
from workers_app.transports.redis_streams.streams import QueueFull


class Transport(lists.Transport):  # type: ignore[misc]  # of no type
    """`redisstream://user:password@host:6379/0`, or `redisstream+socket:///path`."""

    Channel = Channel
    driver_name = "redis-streams"
    implements = lists.Transport.implements.extend(batch_publish=False)
    supports_batch_publish = False
    is_checked = False
    channel_errors = (*lists.Transport.channel_errors, QueueFull)


class TlsChannel(Channel):
    """Checks the server's certificate unless the URL says otherwise (`ssl_cert_reqs`);
    kombu's `rediss` does not."""

    connection_class = redis.SSLConnection


class TlsTransport(Transport):
    """`redisstream-tls://host:6379/0?ssl_ca_certs=/path/ca.pem`."""

    Channel = TlsChannel


class SentinelChannel(Channel, lists.SentinelChannel):  # type: ignore[misc]  # of no type
    """Asks the sentinels of the URL for the master."""

    from_transport_options = (
        *Channel.from_transport_options,
        "master_name",
        "min_other_sentinels",
        "sentinel_kwargs",
        "sentinel_fanout_compat",
    )

    def _prepare_virtual_host(self, vhost: Any) -> int:
        """`/master/0` or `/0`: the master's name may stand before the database."""
        name, _, database = str(vhost).strip("/").rpartition("/")
        if not name and database and not database.isdigit():
            name, database = database, "0"
        if name:
            self.master_name = name
        number: int = super()._prepare_virtual_host(database)
        return number

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        """As kombu's, which knows alternates of the scheme `sentinel` only."""
        parameters = self._connparams(asynchronous)
        first = parameters.pop("host"), parameters.pop("port")
        others = [url_to_parts(url) for url in self.connection.client.alt]
        sentinels = [
            (url.hostname, url.port or self.connection.default_port) for url in others
        ]
        if getattr(self, "master_name", None) is None:
            raise ValueError(
                "name the master in the broker's URL,"
                " as in redisstream-sentinel://host:26379/mymaster/0"
            )
        manager: Any = sentinel.Sentinel(  # type: ignore[no-untyped-call]
            sentinels or [first],
            min_other_sentinels=getattr(self, "min_other_sentinels", 0),
            sentinel_kwargs=getattr(self, "sentinel_kwargs", None),
            **parameters,
        )
        name = "_async_sentinel_manager" if asynchronous else "_sentinel_manager"
        setattr(self, name, manager)  # closed with the channel
        return manager.master_for(self.master_name).connection_pool


class SentinelTransport(Transport):
    """`redisstream-sentinel://host:26379/mymaster/0`, more of them after `;`."""

    Channel = SentinelChannel
    default_port = 26379
