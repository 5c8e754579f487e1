# PID 1 of a host, from its fresh namespaces: makes the root file system out of the machine's and the host's disk, and
# becomes systemd. Arguments: the host's name, its directory, the directory that all hosts share, the capabilities that
# root has not.
set -eu
name=$1 dir=$2 shared=$3 without=$4 root=$2/root

mkdir -p "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/disk/upper,workdir=$dir/disk/work" "$root"
cd "$root"

mount -t proc proc proc
# What is not a host's own but the machine's can be read and not written, as in any container.
for path in sys bus irq fs sysrq-trigger; do
    [ -e "proc/$path" ] || continue
    mount --bind "proc/$path" "proc/$path"
    mount -o remount,bind,ro "proc/$path"
done
mount -t sysfs sysfs sys
mount -o remount,bind,ro sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755,size=128m tmpfs run
mount -t tmpfs -o mode=1777,size=128m tmpfs tmp
mount -t tmpfs -o mode=755,size=1m tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    numbers=${device#*:}
    mknod -m 666 "dev/${device%%:*}" c "${numbers%:*}" "${numbers#*:}"
done
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=1777,size=64m tmpfs dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666,mode=620,gid=5
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
touch dev/console
mount --bind "$dir/console.log" dev/console

# The kernel has one boot id for all hosts and all their boots.
cat proc/sys/kernel/random/uuid >"$dir/boot_id"
mount --bind "$dir/boot_id" proc/sys/kernel/random/boot_id

mount --bind "$shared" srv/lab
mount -o remount,bind,ro srv/lab
hostname "$name"

# Nothing of the machine's mounts stays in reach, or alive after the lab has gone.
mkdir run/machine
pivot_root . run/machine
umount -l /run/machine
rmdir /run/machine
cd /

exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv "$without" \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=0 --log-level=info --log-target=journal \
    </dev/null >/dev/console 2>&1
