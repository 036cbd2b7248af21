/**
 * The part of the image that comes from Debian: the C library, nft, iptables and ip, from packages pinned by digest in
 * `debian.json`. Unpacked without their install scripts, which only register alternatives and caches.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import * as tar from 'tar'
import { download } from './download.ts'

export type Architecture = 'amd64' | 'arm64'

export interface DebianPackage {
  readonly name: string
  readonly version: string
  /** Below the root of a Debian mirror. */
  readonly path: string
  readonly sha256: string
}

const suite = 'trixie'
const mirror = 'https://deb.debian.org/debian'
/** Keeps every version for ever; the mirror only has the newest. */
const archive = 'https://snapshot.debian.org/archive/debian/20261101T000000Z'
const wanted = ['libc6', 'libstdc++6', 'libatomic1', 'nftables', 'iptables', 'iproute2']
/** What only install scripts and programs need that the image leaves out (`ss`, `arpd`, `rpcinfo` and their like). */
const unwanted = new Set([
  'debconf',
  'debconf-2.0',
  'libcap2-bin',
  'libdb5.3t64',
  'libtirpc3t64',
  'gcc-14-base'
])
const pins = path.join(import.meta.dirname, 'debian.json')

export function debianPackages(architecture: Architecture): readonly DebianPackage[] {
  const all = JSON.parse(readFileSync(pins, 'utf8')) as Record<Architecture, DebianPackage[]>
  return all[architecture]
}

/** Unpacks the packages into a folder that becomes the root of the image. */
export async function unpackDebian(architecture: Architecture, root: string): Promise<void> {
  for (const folder of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(path.join(root, 'usr', folder), { recursive: true })
    symlinkSync(`usr/${folder}`, path.join(root, folder))
  }
  for (const { path: file, sha256 } of debianPackages(architecture)) {
    await unpack(await download({ urls: [`${mirror}/${file}`, `${archive}/${file}`], sha256 }), root)
  }
  for (const family of ['iptables', 'ip6tables']) {
    for (const verb of ['', '-save', '-restore']) {
      symlinkSync(`${family}-nft${verb}`, path.join(root, 'usr/sbin', `${family}${verb}`))
    }
  }
  mkdirSync(path.join(root, 'tmp'))
  writeFileSync(path.join(root, 'etc/passwd'), 'root:x:0:0::/:/nologin\nunderpass:x:1337:1337::/:/nologin\n')
  writeFileSync(path.join(root, 'etc/group'), 'root:x:0:\nunderpass:x:1337:\n')
  writeFileSync(path.join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n')
}

/** Writes `debian.json` anew: the newest versions, with all that they depend on. */
export async function pinDebian(): Promise<void> {
  const pinned = Object.fromEntries(
    await Promise.all((['amd64', 'arm64'] as const).map(async one => [one, await resolvePackages(one)]))
  ) as Record<Architecture, DebianPackage[]>
  writeFileSync(pins, `${JSON.stringify(pinned, null, 2)}\n`)
}

async function resolvePackages(architecture: Architecture): Promise<DebianPackage[]> {
  const url = `${mirror}/dists/${suite}/main/binary-${architecture}/Packages.gz`
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`)
  const known = new Map(
    gunzipSync(Buffer.from(await answer.arrayBuffer()))
      .toString('utf8')
      .split('\n\n')
      .map(
        stanza =>
          new Map(
            Array.from(stanza.matchAll(/^([\w-]+): (.*)$/gm), ([, key = '', value = '']) => [key, value])
          )
      )
      .map(fields => [fields.get('Package') ?? '', fields])
  )
  const chosen = new Map<string, DebianPackage>()
  const queue = [...wanted]
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const fields = known.get(name)
    if (fields === undefined) throw new Error(`${suite} has no package ${name} for ${architecture}`)
    if (chosen.has(name) || unwanted.has(name)) continue
    const [version = '', file = '', sha256 = ''] = ['Version', 'Filename', 'SHA256'].map(key =>
      fields.get(key)
    )
    chosen.set(name, { name, version, path: file, sha256 })
    const depends = fields.get('Depends')?.split(', ') ?? []
    queue.push(...depends.map(one => one.split(/[ :|]/)[0] ?? '').filter(one => !unwanted.has(one)))
  }
  return [...chosen.values()].toSorted((a, b) => a.name.localeCompare(b.name))
}

/** Programs, libraries and licences; no manuals, translations, character sets. */
function isWanted(name: string): boolean {
  if (/^usr\/share\/doc\/[^/]+\/copyright$/.test(name)) return true
  return (
    /^(usr\/(s?bin|lib|lib64)|etc\/(protocols|services))(\/|$)/.test(name) &&
    !/\/(gconv|audit|locale|systemd|tc)\//.test(name)
  )
}

async function unpack(file: string, root: string): Promise<void> {
  const reader = spawn('dpkg-deb', ['--fsys-tarfile', file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const writer = tar.extract({
    cwd: root,
    filter: name => isWanted(name.replace(/^\.\//, '')),
    preserveOwner: false
  })
  const written = once(writer, 'close')
  reader.on('error', cause =>
    writer.abort(new Error('dpkg-deb cannot be run: the image is built on Debian or Ubuntu', { cause }))
  )
  reader.stdout.pipe(writer)
  await written
}

/** Removes what nothing in the image calls; `wanted` brings whole packages. */
export function prune(root: string, keep: ReadonlySet<string>): void {
  for (const folder of ['usr/bin', 'usr/sbin']) {
    for (const name of readdirSync(path.join(root, folder))) {
      if (!keep.has(name)) rmSync(path.join(root, folder, name), { recursive: true })
    }
  }
}
