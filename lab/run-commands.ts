/**
 * Decides what a container runs: its own command, where that is a harmless program that this machine has, or
 * the stand-in server. Images are never fetched: only the command in the manifest can be run.
 */
import { accessSync, constants } from 'node:fs'
import path from 'node:path'

/** `--run-commands`: which commands of manifests may run as they are. */
export const commandModes = ['allow-list', 'all', 'none'] as const
export type CommandMode = (typeof commandModes)[number]

export type ContainerProgram =
  | { readonly kind: 'command'; readonly command: readonly string[] }
  | { readonly kind: 'stand-in'; readonly reason: string }

export interface ContainerCommand {
  readonly image?: string | undefined
  readonly command?: readonly string[] | undefined
  readonly args?: readonly string[] | undefined
}

/** Programs that only look, wait or make requests. */
const allowed = new Set(
  (
    'awk basename bash cat curl cut date dig dirname echo env expr false getent grep head hostname id ip ls ' +
    'mkdir nc netcat nslookup ping printenv printf pwd rm sed seq sh sleep sort ss tail tee test timeout touch ' +
    'tr true uname uniq wc wget xargs yes'
  ).split(' ')
)

const shells = new Set(['sh', 'bash', 'ash', 'dash'])

/** Words of the shell's own that may stand where a command does. */
const shellWords = new Set(
  (
    'if then else elif fi for while until do done case esac in { } ! : . [ [[ break continue exit export local ' +
    'read return set shift trap unset wait exec eval cd kill'
  ).split(' ')
)

/** Images whose entry point is known and allowed, so that `args` alone are a command. */
const entryPoints: Readonly<Record<string, readonly string[]>> = {
  'curlimages/curl': ['curl'],
  'curlimages/curl-base': ['curl'],
  busybox: ['sh'],
  alpine: ['sh']
}

/** `find` tells where a program is on this machine; undefined when it is not. */
export function programOf(
  container: ContainerCommand,
  mode: CommandMode,
  find: (program: string) => string | undefined = findProgram
): ContainerProgram {
  const command = commandOf(container)
  if (command === undefined) return standIn(`the image ${container.image ?? ''} is not here`)
  if (mode === 'none') return standIn('--run-commands=none')
  const [program = '', ...args] = command
  if (mode === 'allow-list') {
    const refused = refusal([program, ...args])
    if (refused !== undefined) return standIn(refused)
  }
  const found = find(program) ?? find(path.basename(program))
  if (found === undefined) return standIn(`${program} is not installed here`)
  return { kind: 'command', command: [found, ...args] }
}

/** What the container would run; undefined when only its image knows. */
function commandOf({ image, command, args }: ContainerCommand): readonly string[] | undefined {
  if (command !== undefined && command.length > 0) return [...command, ...(args ?? [])]
  const name = imageName(image ?? '')
  const entryPoint = entryPoints[name]
  return entryPoint === undefined || args === undefined || args.length === 0
    ? undefined
    : args[0] !== undefined && allowed.has(path.basename(args[0]))
      ? args
      : [...entryPoint, ...args]
}

/** Without registry, tag and digest. */
function imageName(image: string): string {
  const [name = ''] = image.replace(/^(docker\.io|quay\.io|registry\.k8s\.io)\//, '').split('@')
  return name.replace(/:[^/]*$/, '').replace(/^library\//, '')
}

/** Why a command is not on the allow-list; undefined when it is. */
function refusal(command: readonly string[]): string | undefined {
  const name = path.basename(command[0] ?? '')
  if (!allowed.has(name)) return `${name} is not on the allow-list`
  if (name === 'env' || name === 'timeout' || name === 'xargs') {
    const inner = command.slice(1).filter(word => !/^-|=|^\d+[smh]?$/.test(word))
    return inner.length === 0 ? undefined : refusal(inner)
  }
  if (!shells.has(name)) return undefined
  const at = command.findIndex(word => /^-[a-z]*c[a-z]*$/.test(word))
  if (at === -1) return command.length === 1 ? undefined : `a script file is not here: ${command[1]}`
  const stranger = commandsOf(command[at + 1] ?? '').find(
    word => !allowed.has(path.basename(word)) && !shellWords.has(word)
  )
  return stranger === undefined ? undefined : `its script runs ${stranger}, which is not on the allow-list`
}

/**
 * The words of a shell script that stand where a command does. Not a parser: quoted text is skipped except for
 * command substitutions, functions count as strangers, and what is misread ends in the stand-in.
 */
export function commandsOf(script: string): string[] {
  const found: string[] = []
  const substitutions = script.matchAll(/\$\(([^()]*)\)|`([^`]*)`/g)
  for (const [, inner, quoted] of substitutions) found.push(...commandsOf(inner ?? quoted ?? ''))
  const plain = script
    .replaceAll(/\$\([^()]*\)|`[^`]*`/g, 'x')
    .replaceAll(/\$\{[^}]*\}/g, 'x')
    .replaceAll(/\\\n/g, ' ')
    .replaceAll(/(^|\s)#[^\n]*/g, '$1')
    .replaceAll(/'[^']*'|"(?:\\.|[^"\\])*"/g, 'x')
    .replaceAll(/\d*>&\d|&>|\d*>>?\s*\S+|<\s*\S+/g, ' ')
  for (const part of plain.split(/;;?|&&|\|\||[|&\n()]/)) {
    const words = part.split(/\s+/).filter(Boolean)
    let at = 0
    // `then curl`, `do sleep`, `! test`, `X=1 curl`: the command comes after these.
    while (/^(if|then|else|elif|while|until|do|!|\{|exec|[A-Za-z_]\w*=.*)$/.test(words[at] ?? '')) at += 1
    const [word] = words.slice(at)
    if (word === undefined) continue
    found.push(word)
  }
  return found
}

function findProgram(program: string): string | undefined {
  const candidates = program.startsWith('/')
    ? [program]
    : ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'].map(
        folder => `${folder}/${program}`
      )
  return candidates.find(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    // Not there, or not a program.
    return false
  }
}

function standIn(reason: string): ContainerProgram {
  return { kind: 'stand-in', reason }
}
