module homelab/lab/pause

go 1.19
