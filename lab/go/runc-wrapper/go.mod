module homelab/lab/runc-wrapper

go 1.19
