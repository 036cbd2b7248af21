/** Stops the node agent at any of the commands that change a machine, and takes pictures of what is on the machine. */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { Namespace } from '../support/namespaces.ts'
import { eventually } from '../support/eventually.ts'

const programs = ['nft', 'ip', ...['iptables', 'ip6tables'].map(name => `${name}-restore`)]

/** Commands in front of the real ones: the wanted one is done, or not, and then takes for ever. */
export class StoppingCommands {
  readonly path: string
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = path.join(folder, 'commands')
    this.path = `${this.#folder}:${process.env['PATH']}`
    mkdirSync(this.#folder)
    for (const program of programs) {
      const file = path.join(this.#folder, program)
      writeFileSync(file, wrapper(program, this.#folder))
      chmodSync(file, 0o755)
    }
  }

  /** From now on the `number`th command that changes something stops; `done` says whether it is executed before. */
  stopAt(number: number, { done }: { readonly done: boolean }): void {
    writeFileSync(path.join(this.#folder, 'count'), '0')
    writeFileSync(path.join(this.#folder, 'done'), done ? 'yes' : 'no')
    writeFileSync(path.join(this.#folder, 'stop-at'), String(number))
  }

  /** Resolves to whether a command stopped before `finished`. */
  async stopped(finished: () => Promise<boolean> | boolean): Promise<boolean> {
    const file = path.join(this.#folder, 'stopped')
    await eventually('a command stops or all is done', async () => existsSync(file) || finished(), {
      everyMs: 50
    })
    return existsSync(file)
  }

  /** Ends the command that stopped; all later ones work. */
  release(): void {
    const file = path.join(this.#folder, 'stopped')
    rmSync(path.join(this.#folder, 'stop-at'), { force: true })
    if (!existsSync(file)) return
    process.kill(Number(readFileSync(file, 'utf8')), 'SIGKILL')
    rmSync(file)
  }
}

function wrapper(program: string, folder: string): string {
  return `#!/bin/sh
case " $* " in *" list "*|*" -force "*) exec /usr/sbin/${program} "$@";; esac
[ -e ${folder}/stop-at ] || exec /usr/sbin/${program} "$@"
count=$(($(cat ${folder}/count) + 1))
echo $count > ${folder}/count
[ $count = "$(cat ${folder}/stop-at)" ] || exec /usr/sbin/${program} "$@"
[ "$(cat ${folder}/done)" = no ] || /usr/sbin/${program} "$@" > /dev/null
echo $$ > ${folder}/stopped.new
mv ${folder}/stopped.new ${folder}/stopped
exec sleep 120 > /dev/null 2>&1
`
}

/** Rules, policy rules, routes and settings of a namespace, as text to compare. */
export function pictureOf(namespace: Namespace): string {
  const parts: readonly (readonly [string, ...string[]])[] = [
    ['nft', 'list', 'ruleset'],
    ...['iptables', 'ip6tables'].map(name => [`${name}-legacy-save`] as const),
    ...['-4', '-6'].flatMap(family => [
      ['ip', family, 'rule'] as const,
      ['ip', family, 'route', 'show', 'table', 'all'] as const
    ]),
    ['sysctl', '-a', '-r', String.raw`^net\.ipv[46]\.`]
  ]
  return parts.map(([program, ...rest]) => withoutEmptyChains(namespace.run(program, ...rest))).join('\n')
}

/**
 * iptables never takes back a built-in chain that it made: with no rule inside it does nothing. Its counters and
 * comments change by themselves.
 */
function withoutEmptyChains(text: string): string {
  return text
    .split('\n')
    .filter(line => !/^#|^:|^\*|^COMMIT|fe80:/.test(line)) // link-local addresses appear when they are ready
    .join('\n')
    .replaceAll(/\tchain [A-Z]+ \{\n\t\ttype .*\n\t\}\n?/g, '')
    .replaceAll(/\n{2,}/g, '\n')
    .replaceAll(/table ip6? (?:raw|mangle|nat|filter) \{\n\}\n?/g, '')
}
