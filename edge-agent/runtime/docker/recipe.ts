/**
 * What the firewall's image is made of: a few Debian packages, whole or one file of them, and nothing else.
 * The tag of an image is the hash of its recipe, so that an image never means two things.
 */
import { createHash } from 'node:crypto';

export interface RecipePackage {
  readonly name: string;
  /** Only these paths of the package, as tar names them. Without it: all of the package that is not dropped. */
  readonly only?: readonly string[];
}

/**
 * iptables, conntrack, ip, bridge, nft and ethtool, the libraries that they load, and `sleep`, which is the container's first process.
 * The libraries are listed instead of resolved: Debian's dependencies also name what only maintainer scripts need (perl, debconf).
 */
export const PACKAGES: readonly RecipePackage[] = [
  { name: 'iptables' },
  { name: 'conntrack' },
  { name: 'iproute2' },
  { name: 'nftables' },
  { name: 'ethtool' },
  { name: 'coreutils', only: ['./bin/sleep'] },
  { name: 'libc6' },
  { name: 'libbpf1' },
  { name: 'libbsd0' },
  { name: 'libcap2' },
  { name: 'libedit2' },
  { name: 'libelf1' },
  { name: 'libgmp10' },
  { name: 'libip4tc2' },
  { name: 'libip6tc2' },
  { name: 'libjansson4' },
  { name: 'libmd0' },
  { name: 'libmnl0' },
  { name: 'libnetfilter-conntrack3' },
  { name: 'libnfnetlink0' },
  { name: 'libnftables1' },
  { name: 'libnftnl11' },
  { name: 'libtinfo6' },
  { name: 'libxtables12' },
  { name: 'zlib1g' },
];

/** What no program of the image reads. */
export const DROPPED: readonly string[] = [
  './usr/share/doc*',
  './usr/share/man*',
  './usr/share/info*',
  './usr/share/locale*',
  './usr/share/lintian*',
  './usr/share/bash-completion*',
  './usr/share/tcltk*',
  './usr/lib/*/gconv*',
  './lib/*/gconv*',
  './usr/lib/locale*',
  './usr/lib/tc*',
  './etc/init.d*',
  './lib/systemd*',
];

/** Programs that must run in a finished image, each with arguments that make it end at once with 0. */
export const PROOFS: readonly (readonly string[])[] = [
  ['/usr/sbin/iptables-nft-restore', '--version'],
  ['/usr/sbin/ip6tables-nft-restore', '--version'],
  ['/usr/sbin/iptables-nft-save', '--version'],
  ['/usr/sbin/conntrack', '--version'],
  ['/usr/sbin/nft', '--version'],
  ['/usr/sbin/ethtool', '--version'],
  ['/usr/sbin/ip', '-V'],
  ['/usr/sbin/bridge', '-V'],
  ['/usr/bin/sleep', '0'],
];

/** Rises when the way of building changes what comes out. */
const CONSTRUCTION = 1;

const digest = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);

/** Names the recipe without the packages' versions: tells whether a cached image was built by this program's recipe. */
export const RECIPE_ID = digest({ construction: CONSTRUCTION, packages: PACKAGES, dropped: DROPPED });

/** Names an image: the recipe with the version of every package. */
export function imageHash(versions: Readonly<Record<string, string>>, architecture: string): string {
  const sorted = Object.entries(versions).sort(([a], [b]) => (a < b ? -1 : 1));
  return digest({ recipe: RECIPE_ID, architecture, versions: sorted });
}

export const IMAGE_REPOSITORY = 'paguro/firewall';

export function imageTag(hash: string): string {
  return `${IMAGE_REPOSITORY}:${hash}`;
}
