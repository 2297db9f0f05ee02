# For scripts in a host of the lab: containers of the image at /mnt/rootfs.

# A bundle NAME whose container has one annotation and runs a command.
bundle() {
    mkdir -p "/run/bundles/$1"
    sed -e "s|@ID@|$1|; s|@KEY@|dev.volhook.$2|; s|@VALUE@|$3|; s|@COMMAND@|$(printf %s "$4" | sed 's/["\\]/\\\\&/g; s/[&|]/\\&/g')|" \
        /mnt/config.json > "/run/bundles/$1/config.json"
    volhook bundle install "/run/bundles/$1" >/dev/null
}

# Runs a container to its end: NAME KEY VALUE COMMAND.
container() {
    bundle "$@" && runc run --bundle "/run/bundles/$1" "$1" </dev/null
}

# Runs one in the background.
detached() {
    bundle "$@" && runc run --detach --bundle "/run/bundles/$1" "$1" </dev/null >/dev/null
}
