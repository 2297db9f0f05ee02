#!/bin/sh
# The first process of a host of the lab. Its root filesystem is that of the machine that the lab runs on, read-only;
# what is written goes to memory, or to the host's own disk at /mnt.
set -eu
export PATH=/run/lab/programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TMPDIR=/tmp DM_DISABLE_UDEV=1
export VOLHOOK_ROOT=/mnt/volhook VOLHOOK_RUN_DIR=/run/volhook VOLHOOK_CONFIG=/mnt/config.toml

mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/tty0 2>&1
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/lab/programs /run/lab/folder /run/lab/modules/lib/modules
# By the names that these have here, whatever else will be mounted above them.
mount -t hostfs -o "$LAB_PROGRAMS" none /run/lab/programs
mount -t hostfs -o "$LAB_FOLDER" none /run/lab/folder
mount -t tmpfs tmpfs /tmp

# What the kernel asks for when it lacks a filesystem or a driver.
kernel=$(uname -r)
ln -s "/usr/lib/uml/modules/$kernel" "/run/lab/modules/lib/modules/$kernel"
printf '#!/bin/sh\nexec modprobe -d /run/lab/modules "$@"\n' > /run/lab/modprobe
chmod 0755 /run/lab/modprobe
echo /run/lab/modprobe > /proc/sys/kernel/modprobe

# What a device of a running host would be asked of udev for.
modprobe -d /run/lab/modules loop

mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "$LAB_NAME" > /proc/sys/kernel/hostname
if [ -e /etc/machine-id ]; then
    echo "$LAB_MACHINE" > /run/lab/machine-id
    mount --bind /run/lab/machine-id /etc/machine-id
fi
. /run/lab/folder/disks.sh

if [ "$LAB_SHELL" = 1 ]; then
    setsid --ctty sh -c 'cd /mnt; exec bash --norc -i' </dev/ttyS0 >/dev/ttyS0 2>&1 || true
else
    stty raw -echo </dev/ttyS0
    xtask lab-agent </dev/ttyS0 >/dev/ttyS0 || true
fi

# An orderly end: everybody may finish, then nobody runs, then the disk is unmounted.
kill -TERM -1 || true
for _ in 1 2 3 4 5 6 7 8 9 10; do
    # The kernel's threads have no command line; this shell, its copy, grep and wc have one.
    [ "$(grep -lsa . /proc/[0-9]*/cmdline | wc -l)" -le 4 ] && break
    sleep 0.2
done
kill -KILL -1 || true
sync
umount /mnt || echo "the disk is still busy: $(grep ' /mnt' /proc/self/mountinfo)" >&2
busybox poweroff -f
