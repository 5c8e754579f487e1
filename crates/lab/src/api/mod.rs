//! The Kubernetes API of the stand-in, served from etcd, with its controllers and the kubelet's reports.
