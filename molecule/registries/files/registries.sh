#!/bin/sh
# Six registries on this node, each of the kind that docker treats in a way of its own, and docker
# set up for them. Not on the loopback addresses, which docker takes as insecure anyway.
set -eu
address=$(ip -4 -o addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }')
top=/srv/registries
mkdir -p "$top" && cd "$top"

# hub.lab is a mirror of Docker Hub, and nobody answers at gone.lab; registry-1.docker.io stands for
# Docker Hub itself.
names="owner.lab plain.lab selfsigned.lab ca.lab client.lab hub.lab gone.lab registry-1.docker.io"
grep -q plain.lab /etc/hosts || echo "$address $names" >>/etc/hosts

make_ca() { # NAME
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"
}
make_cert() { # NAME CA
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
    printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$1" >"$1.ext"
    openssl x509 -req -days 2 -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial \
        -extfile "$1.ext" -out "$1.crt"
}
start() { # NAME PORT STORAGE TLS CLIENT-CA
    {
        echo "version: 0.1"
        echo "log: {level: warn, accesslog: {disabled: true}}"
        echo "storage: {filesystem: {rootdirectory: $top/$3}}"
        echo "http:"
        echo "  addr: $address:$2"
        [ -z "$4" ] || echo "  tls: {certificate: $top/$4.crt, key: $top/$4.key${5:+, clientcas: [$top/$5.crt]}}"
    } >"$1-$2.yml"
    systemd-run --quiet --unit="registry-$2" docker-registry serve "$top/$1-$2.yml"
}

if [ ! -e done ]; then
    make_ca own-ca && make_ca selfsigned.lab && make_ca hub-ca
    for name in ca.lab client.lab hub.lab client; do make_cert $name own-ca; done
    make_cert registry-1.docker.io hub-ca
    cp hub-ca.crt /usr/local/share/ca-certificates/ && update-ca-certificates
    for host in ca.lab:5003 client.lab:5004 hub.lab:5005; do
        mkdir -p /etc/docker/certs.d/$host && cp own-ca.crt /etc/docker/certs.d/$host/ca.crt
    done
    cp client.crt /etc/docker/certs.d/client.lab:5004/client.cert
    cp client.key /etc/docker/certs.d/client.lab:5004/client.key
    touch done
fi
start plain.lab 5001 shared ""
start selfsigned.lab 5002 shared selfsigned.lab
start ca.lab 5003 shared ca.lab
start client.lab 5004 shared client.lab own-ca
start hub.lab 5005 shared hub.lab
start registry-1.docker.io 443 hub registry-1.docker.io
start registry-1.docker.io 5006 hub "" # the same, to push to

# What the owner told containerd, and docker does not know of.
mkdir -p /opt/certs.d/owner.lab:5001
cat >/opt/certs.d/owner.lab:5001/hosts.toml <<END
server = "http://owner.lab:5001"
[host."http://owner.lab:5001"]
  capabilities = ["pull", "resolve"]
END
# This one says what docker says better: it is replaced, and kept beside.
mkdir -p /etc/containerd/certs.d/plain.lab:5001
echo "# Written by the owner" >/etc/containerd/certs.d/plain.lab:5001/hosts.toml
cat >/etc/containerd/config.toml <<END
disabled_plugins = ["cri"]
[plugins.cri.registry]
  config_path = "/opt/certs.d"
END

# A proxy that nobody is behind: without NO_PROXY nothing could be pulled.
mkdir -p /etc/systemd/system/docker.service.d
cat >/etc/systemd/system/docker.service.d/proxy.conf <<END
[Service]
Environment="HTTP_PROXY=http://me:hush%%40hush@$address:9" "HTTPS_PROXY=http://me:hush%%40hush@$address:9"
Environment="NO_PROXY=.lab,registry-1.docker.io,10.0.0.0/8,.svc,localhost"
END
cat >/etc/docker/daemon.json <<END
{
  "exec-opts": ["native.cgroupdriver=systemd"],
  "insecure-registries": ["registry.lab:5000", "plain.lab:5001", "selfsigned.lab:5002", "plain.lab:5006"],
  "registry-mirrors": ["https://gone.lab:5999", "https://hub.lab:5005"],
  "log-driver": "json-file",
  "log-opts": {"max-size": "20m", "max-file": "1"},
  "live-restore": true,
  "max-concurrent-downloads": 5,
  "runtimes": {"noisy": {"path": "/usr/sbin/runc", "runtimeArgs": ["--debug"]}},
  "storage-driver": "overlay2"
}
END
# live-restore first, so that the pods outlive the restart that the proxy needs.
systemctl reload docker && systemctl daemon-reload && systemctl restart docker

web=registry.lab:5000/web:1
docker pull -q $web
for name in plain.lab:5001/lab/web:1 plain.lab:5001/library/web:1 plain.lab:5006/library/only-there:1; do
    docker tag $web $name
    docker push -q $name
    docker rmi $name
done
# What follows has to hold for docker first.
for image in "$@"; do
    docker pull -q "$image"
    docker rmi "$image"
done
