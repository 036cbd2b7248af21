/**
 * What a container's process sees of the machine: the programs of the machine read-only, a private /tmp, /run
 * and /var, its own /etc with resolv.conf and hosts, no home, no /sys. Shell scripts do it, because a running
 * Node cannot enter a mount namespace.
 */
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { run } from './command.ts'

/** What a container may do beyond an ordinary process. Only the mesh's own programs get more than `none`. */
export type Privileges =
  /** No capability but NET_BIND_SERVICE, and not root where the lab runs as root. */
  | 'none'
  /** As ztunnel's DaemonSet asks: opens sockets in the network namespaces that it is handed. */
  | 'network'
  /** As the node agent's: sees the node's processes, and what is mounted later into folders of the node. */
  | 'node'

export interface Mount {
  readonly source: string
  /** Absolute path in the container. */
  readonly target: string
  readonly readOnly: boolean
}

export interface ContainerRoot {
  /** Folder of this container; its root file system is mounted at `root` in it. */
  readonly folder: string
  readonly hostname: string
  readonly workingDir: string
  readonly mounts: readonly Mount[]
  readonly privileges: Privileges
}

/** Folders of the machine that hold programs; the rest of it a container does not see. */
const programFolders = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', 'usr', 'opt', 'nix', 'gnu']

/** Parts of /etc that programs need and that hold no secret. */
const settings = (
  'alternatives ca-certificates crypto-policies ethertypes gai.conf group iproute2 ld.so.cache ld.so.conf ' +
  'ld.so.conf.d localtime mime.types nftables nsswitch.conf passwd pki protocols rpc services ssl/certs ' +
  'ssl/openssl.cnf terminfo'
).split(' ')

const devices = ['null', 'zero', 'full', 'random', 'urandom', 'tty']

/** The user a container runs as where the lab itself runs as root. */
export const containerUser = 65534

/** The part of a root file system that all containers share. */
export class RootTemplate {
  readonly folder: string
  readonly #links: readonly string[]
  readonly #folders: readonly string[]

  private constructor(folder: string, links: readonly string[], folders: readonly string[]) {
    this.folder = folder
    this.#links = links
    this.#folders = folders
  }

  /** `programs` are further absolute folders that containers need: this project, the running Node. */
  static async create(folder: string, programs: readonly string[]): Promise<RootTemplate> {
    mkdirSync(folder, { recursive: true })
    const names = readdirSync('/').filter(name => programFolders.includes(name))
    const links = names.filter(name => lstatSync(`/${name}`).isSymbolicLink())
    const inside = (program: string): boolean =>
      names.some(name => program === `/${name}` || program.startsWith(`/${name}/`))
    const folders = [
      ...names.filter(name => !links.includes(name)),
      ...programs.filter(program => !inside(program)).map(program => program.slice(1))
    ]
    await run('sh', ['-s'], { input: templateScript(folder, links, folders) })
    return new RootTemplate(folder, links, folders)
  }

  /** Folders that a container needs and a volume of its covers, as one at /tmp does when the project lies below it. */
  #hiddenBy(mounts: readonly Mount[]): string[] {
    return this.#folders.filter(name => mounts.some(({ target }) => `/${name}`.startsWith(`${target}/`)))
  }

  /** Commands for a fresh mount namespace that build the container's root and make it the root. */
  enterScript(root: ContainerRoot): string {
    const at = path.join(root.folder, 'root')
    mkdirSync(at, { recursive: true })
    const template = quote(this.folder)
    const tmpfs = (target: string, mode: string): string => `mount -t tmpfs -o mode=${mode} tmpfs ${target}`
    return [
      tmpfs(quote(at), '755'),
      `cd ${quote(at)}`,
      'mkdir proc dev etc tmp run var root home',
      ...(this.#links.length > 0 ? [`cp -P ${this.#links.map(link => `/${link}`).join(' ')} .`] : []),
      tmpfs('tmp', '1777'),
      tmpfs('run', '1777'),
      tmpfs('var', '755'),
      // After these, because the project itself may lie below /tmp or /home.
      `mkdir -p ${this.#folders.map(quote).join(' ')}`,
      ...this.#folders.map(name => `mount --rbind ${template}/${quote(name)} ./${quote(name)}`),
      `mount --rbind ${template}/etc etc`,
      `mount --rbind ${template}/dev dev`,
      tmpfs('dev/shm', '1777'),
      'mkdir -p run/secrets var/lib var/log var/cache',
      'mkdir -m 1777 var/tmp',
      'ln -s ../run var/run',
      ...root.mounts.map(mount => mountScript(mount)),
      ...this.#hiddenBy(root.mounts).map(
        name => `mkdir -p ${quote(name)} && mount --rbind ${template}/${quote(name)} ./${quote(name)}`
      ),
      'mount -o remount,bind,ro .',
      root.privileges === 'node' ? 'mount --rbind /proc proc' : 'mount -t proc proc proc',
      `hostname ${quote(root.hostname)} 2>/dev/null || true`,
      'pivot_root . .',
      'umount -l .',
      `cd ${quote(root.workingDir)} 2>/dev/null || cd /`
    ].join('\n')
  }
}

/** Words of a shell command that start a program with a container's rights and environment and nothing else. */
export function dropPrivileges(privileges: Privileges, environment: ReadonlyMap<string, string>): string[] {
  const variables = ['env', '-i', ...[...environment].map(([name, value]) => `${name}=${value}`)]
  if (privileges !== 'none') return variables
  const asUser =
    process.getuid?.() === 0 && !insideUserNamespace()
      ? [`--reuid=${containerUser}`, `--regid=${containerUser}`, '--clear-groups']
      : []
  const capabilities = '-all,+net_bind_service'
  return [
    'setpriv',
    ...asUser,
    `--bounding-set=${capabilities}`,
    `--inh-caps=${capabilities}`,
    '--no-new-privs',
    ...variables
  ]
}

/** In a user namespace "root" is the user who started the lab, and no other user exists. */
export function insideUserNamespace(): boolean {
  return !/^\s*0\s+0\s+4294967295\s*$/.test(readUidMap())
}

export function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`
}

function readUidMap(): string {
  return readFileSync('/proc/self/uid_map', 'utf8')
}

function templateScript(folder: string, links: readonly string[], folders: readonly string[]): string {
  const at = quote(folder)
  const parts = settings.filter(name => existsSync(`/etc/${name}`))
  const isFolder = (name: string): boolean => lstatSync(`/etc/${name}`).isDirectory()
  const isLink = (name: string): boolean => lstatSync(`/etc/${name}`).isSymbolicLink()
  const bind = (source: string, target: string): string =>
    `mount --rbind ${quote(source)} ${quote(target)} && mount -o remount,bind,ro ${quote(target)}`
  return [
    'set -eu',
    `mount -t tmpfs -o mode=755 tmpfs ${at}`,
    `cd ${at}`,
    `mkdir -p dev/shm etc/ssl ${folders.map(quote).join(' ')}`,
    ...folders.map(name => bind(`/${name}`, `${folder}/${name}`)),
    ...parts
      .filter(name => !isLink(name))
      .flatMap(name => [
        isFolder(name) ? `mkdir -p etc/${name}` : `: > etc/${name}`,
        bind(`/etc/${name}`, `${folder}/etc/${name}`)
      ]),
    ...parts.filter(isLink).map(name => `cp -P /etc/${name} etc/${name}`),
    ': > etc/resolv.conf; : > etc/hosts; : > etc/hostname',
    ...devices
      .filter(name => existsSync(`/dev/${name}`))
      .flatMap(name => [`: > dev/${name}`, `mount --bind /dev/${name} dev/${name}`]),
    'ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr',
    ...(links.length > 0 ? [`cp -P ${links.map(link => `/${link}`).join(' ')} .`] : [])
  ].join('\n')
}

/** A target that cannot be made (below a read-only folder of the machine) is left out, and said. */
function mountScript({ source, target, readOnly }: Mount): string {
  const at = quote(`.${target}`)
  const folder = quote(path.dirname(`.${target}`))
  const make = lstatSync(source).isDirectory()
    ? `mkdir -p ${at}`
    : `mkdir -p ${folder} && { [ -e ${at} ] || : > ${at}; }`
  const bind = `mount --rbind ${quote(source)} ${at}${readOnly ? ` && mount -o remount,bind,ro ${at}` : ''}`
  return `{ ${make}; } 2>/dev/null && ${bind} || echo "lab: nothing can be mounted at" ${quote(target)} >&2`
}

/** Writes the files of /etc that each pod has of its own; returns how they are mounted. */
export function podSettings(
  folder: string,
  files: { readonly resolvConf: string; readonly hosts: string; readonly hostname: string }
): Mount[] {
  mkdirSync(folder, { recursive: true })
  const mounts: Mount[] = []
  for (const [name, text] of [
    ['resolv.conf', files.resolvConf],
    ['hosts', files.hosts],
    ['hostname', `${files.hostname}\n`]
  ] as const) {
    const source = path.join(folder, name)
    writeFileSync(source, text, { mode: 0o644 })
    mounts.push({ source, target: `/etc/${name}`, readOnly: true })
  }
  return mounts
}
