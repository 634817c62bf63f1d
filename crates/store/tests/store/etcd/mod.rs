//! What only an etcd can do to a store: fail over, be away, be compacted, shared, full, or replaced.

mod failover;
mod proxy;
mod shared;
mod strict;
mod tls;
