# shellcheck shell=bash
# The CPythons that this machine's Debian has not yet: a Debian of its own in a folder, with the
# current patch releases of sid. Sourced by .ci/run. The folder is kept for the next run; what is
# mounted in it is mounted in a namespace that ends with the command, so nothing stays mounted.

newer_cache=${XDG_CACHE_HOME:-$HOME/.cache}/exo-imap-oauth
newer_root=$newer_cache/debian-forky
newer_pythons=(3.13 3.14 3.15)

# Debian's mirror as apt knows it, so that no host stands here.
debian_mirror() {
  # shellcheck disable=SC2016 # apt's own variables
  apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# Says why this machine cannot have a newer Debian; says nothing if it can.
why_no_newer_debian() {
  if ! command -v apt-get >/dev/null; then
    echo "this is no Debian"
  elif [ "$(id -u)" -ne 0 ]; then
    echo "it needs root"
  elif ! unshare -m true 2>/dev/null; then
    echo "it needs root's right to mount"
  else
    apt-get update -qq >/dev/null 2>&1 || true # a foreign repository may be out of reach
    local mirror probe
    mirror=$(debian_mirror)
    probe=$(mktemp)
    if ! /usr/lib/apt/apt-helper download-file "${mirror}dists/forky/InRelease" "$probe" \
      >/dev/null 2>&1; then
      echo "Debian's mirror cannot be reached"
    fi
    rm -f "$probe"
  fi
}

# A command within it, as root, with this checkout as its working directory.
in_newer_debian() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare -m bash -euc '
    root=$1
    shift
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount -t tmpfs tmpfs "$root/tmp"
    mount --bind "$PWD" "$root/checkout"
    exec chroot "$root" env -C /checkout HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
  ' - "$newer_root" "$@"
}

remove_tree() {
  rm -rf --one-file-system "$1" # never into something that somebody else mounted
}

# Makes it under another name first: a run that is killed leaves no half of it for the next one.
make_newer_debian() {
  command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap
  remove_tree "$newer_root"
  remove_tree "$newer_root.partial"
  local mirror
  mirror=$(debian_mirror)
  # An older debootstrap has no script of forky's name; sid's fits.
  unshare -m debootstrap --variant=minbase --include=ca-certificates forky \
    "$newer_root.partial" "$mirror" /usr/share/debootstrap/scripts/sid >"$newer_cache/log"
  mkdir "$newer_root.partial/checkout"
  # The file's own dates are not held against it: a mirror may be a snapshot. Signatures are.
  echo 'Acquire::Check-Valid-Until "false";' >"$newer_root.partial/etc/apt/apt.conf.d/99ci"
  printf 'deb %s %s main\n' "$mirror" forky "$mirror" sid \
    >"$newer_root.partial/etc/apt/sources.list"
  mv "$newer_root.partial" "$newer_root"
}

# The newest Pythons, and how this machine reaches the network and its package index.
update_newer_debian() {
  # nodejs and npm for oidc-provider, the last three for tree-sitter on 3.15
  local packages=(dovecot-imapd redis-server openssl nodejs npm gcc libc6-dev python3.15-dev)
  local version
  for version in "${newer_pythons[@]}"; do packages+=("python$version-venv"); done
  cp -L /etc/resolv.conf /etc/hosts "$newer_root/etc/"
  apt-config dump | grep '^Acquire::.*::Proxy' >"$newer_root/etc/apt/apt.conf.d/99proxy" || true
  in_newer_debian apt-get update -qq
  in_newer_debian dpkg --configure -a # if the last run was killed in the middle of it
  in_newer_debian env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends -t sid "${packages[@]}" >"$newer_cache/log" 2>&1
  cp -L /etc/ssl/certs/ca-certificates.crt "$newer_root/etc/ssl/certs/"
  local file
  for file in /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" "$HOME/.pip" "$HOME/.npmrc"; do
    [ ! -e "$file" ] || cp -rL --parents "$file" "$newer_root/"
  done
}

test_in_newer_debian() {
  mkdir -p "$newer_cache"
  exec 9>"$newer_cache/lock"
  flock 9 # one run at a time
  step "a newer Debian in $newer_root"
  [ -d "$newer_root" ] || make_newer_debian
  if ! update_newer_debian; then # whatever an earlier run left there
    make_newer_debian
    update_newer_debian
  fi
  local version
  for version in "${newer_pythons[@]}"; do
    step "the tests on $(in_newer_debian "python$version" -V), the newest there is"
    # Made again: a venv of a run that was killed may be half there.
    in_newer_debian "python$version" -m venv --clear "/opt/venv-$version"
    in_newer_debian "/opt/venv-$version/bin/pip" install -qq -e '.[dev]'
    in_newer_debian "/opt/venv-$version/bin/python" -m pytest -q -n auto -p no:cacheprovider
  done
  flock -u 9
}
