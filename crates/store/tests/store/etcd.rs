//! etcd alone.
