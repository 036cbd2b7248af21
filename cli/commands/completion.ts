/** `underpass completion`: scripts for shells, made from the commands themselves. */
import type { CommandSpec, ExitCode, LeafCommand, OptionSpec } from '../command.ts'
import { isGroup, UsageError } from '../command.ts'
import { colourOption } from '../options.ts'

const shells = ['bash', 'zsh', 'fish']

/** A verb, as far as completion looks; the list of all verbs is handed in, as it names this command too. */
interface KnownVerb {
  readonly name: string
  readonly aliases: readonly string[]
  readonly summary: string
  readonly load: () => Promise<{ readonly command: CommandSpec }>
}

export const completion = (verbs: readonly KnownVerb[]): LeafCommand => ({
  name: 'completion',
  summary: 'completion for bash, zsh or fish',
  description: `Prints a script that completes commands, options and their values.`,
  arguments: [{ name: 'shell', help: shells.join(', '), required: true, offered: shells }],
  options: [],
  examples: [
    { what: 'In this shell', command: 'completion bash > /tmp/underpass.sh && . /tmp/underpass.sh' },
    { what: 'For fish, for good', command: 'completion fish > ~/.config/fish/completions/underpass.fish' }
  ],
  run: async ({ io, args }): Promise<ExitCode> => {
    const [shell = ''] = args
    if (!shells.includes(shell))
      throw new UsageError(`no completion for ${JSON.stringify(shell)} (there is: ${shells.join(', ')})`)
    const words = await completionWords(verbs)
    io.out(shell === 'bash' ? bashScript(words) : shell === 'zsh' ? zshScript(words) : fishScript(words))
    return 0
  }
})

interface Words {
  /** Words so far, joined by blanks, `''` for none. */
  readonly path: string
  readonly commands: readonly { readonly name: string; readonly summary: string }[]
  readonly options: readonly OptionSpec[]
}

/** Every place in the tree with what may follow there. */
export async function completionWords(verbs: readonly KnownVerb[]): Promise<Words[]> {
  const top = verbs.map(({ name, summary }) => ({ name, summary }))
  const words: Words[] = [{ path: '', commands: top, options: [] }]
  for (const verb of verbs) {
    const { command } = await verb.load()
    for (const name of [verb.name, ...verb.aliases]) words.push(...wordsOf(command, name))
  }
  return words
}

function wordsOf(spec: CommandSpec, path: string): Words[] {
  if (!isGroup(spec)) {
    const commands = (spec.arguments?.[0]?.offered ?? []).map(name => ({ name, summary: '' }))
    const options = [...spec.options.filter(({ hidden }) => hidden !== true), colourOption]
    return [{ path, commands, options: spec.passThrough === true ? [] : options }]
  }
  const inner = spec.commands.flatMap(command =>
    [command.name, ...(command.aliases ?? [])].flatMap(name => wordsOf(command, `${path} ${name}`))
  )
  return [{ path, commands: spec.commands, options: [] }, ...inner]
}

/** `--output` of `-o, --output <format>`. */
function longName({ flags }: OptionSpec): string {
  return /--[\w-]+/.exec(flags)?.[0] ?? flags
}

function bashScript(words: readonly Words[]): string {
  const cases = words.map(({ path, commands, options }) => {
    const next = [...commands.map(({ name }) => name), ...options.map(longName), '--help'].join(' ')
    return `    ${JSON.stringify(path)}) words=${JSON.stringify(next)} ;;`
  })
  return `# bash completion of underpass
_underpass() {
  local path="" words="" previous="\${COMP_WORDS[COMP_CWORD-1]}" word index
  case $previous in
${valueCases(words)}
  esac
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    case $word in -*) break ;; esac
    path="\${path:+$path }$word"
  done
  case $path in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _underpass underpass
`
}

/** Values of options with fixed choices, whatever the command. */
function valueCases(words: readonly Words[]): string {
  return choicesOf(words)
    .map(
      ([names, choices]) =>
        `    ${names.join('|')}) COMPREPLY=($(compgen -W ${JSON.stringify(choices.join(' '))} -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;`
    )
    .join('\n')
}

function choicesOf(words: readonly Words[]): [names: string[], choices: readonly string[]][] {
  const found = new Map<string, [string[], readonly string[]]>()
  for (const { options } of words) {
    for (const option of options) {
      if (option.choices === undefined) continue
      const short = /^-\w/.exec(option.flags)?.[0]
      const known = found.get(longName(option))?.[1] ?? []
      const choices = [...new Set([...known, ...option.choices])]
      found.set(longName(option), [[longName(option), ...(short === undefined ? [] : [short])], choices])
    }
  }
  return [...found.values()]
}

function zshScript(words: readonly Words[]): string {
  return `#compdef underpass
autoload -U +X bashcompinit && bashcompinit
${bashScript(words)}`
}

function fishScript(words: readonly Words[]): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const lines = words.flatMap(({ path, commands, options }) => {
    const here = `-n ${quote(`__underpass_at ${path}`.trim())}`
    return [
      ...commands.map(
        ({ name, summary }) => `complete -c underpass ${here} -f -a ${name} -d ${quote(summary)}`
      ),
      ...options.map(option => {
        const choices = option.choices === undefined ? '' : ` -x -a ${quote(option.choices.join(' '))}`
        const short = /^-(\w),/.exec(option.flags)?.[1]
        const names = `-l ${longName(option).slice(2)}${short === undefined ? '' : ` -s ${short}`}`
        return `complete -c underpass ${here} ${names} -d ${quote(option.help)}${choices}`
      })
    ]
  })
  return `# fish completion of underpass
function __underpass_at
  set -l words (commandline -opc)[2..]
  set -l path
  for word in $words
    string match -q -- '-*' $word; and break
    set -a path $word
  end
  test "$path" = "$argv"
end
${lines.join('\n')}
`
}
