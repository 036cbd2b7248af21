/** Prints `docs/reference/cli.md`, made from the commands themselves: `node scripts/reference-cli.ts > docs/reference/cli.md`. */
import { isGroup, type CommandSpec, type LeafCommand, type OptionSpec } from '../cli/command.ts'
import { clusterOptions, colourOption, meshOptions } from '../cli/options.ts'
import { verbs } from '../cli/verbs.ts'

/** What other programs may rely on. */
const outputForPrograms: readonly string[] = [
  '',
  '## Output for programs',
  '',
  '`-o json`, `yaml` and `jsonl` (one object a line) carry `apiVersion: underpass.dev/v1` and `kind`. Within `v1` fields are',
  'only added: none is renamed, removed or given another meaning; readers skip fields that they do not know. Lists are',
  'in `items` of a kind that ends in `List`. `-o name` prints `kind/namespace/name`. Tables, texts and messages are for people',
  'and may change at any time.',
  '',
  'Results go to stdout; errors and warnings (an agent that did not answer, events that were dropped) to stderr, and each error to',
  'one exit code of the list above; `lab exec` and `lab kubectl` end as what they ran. Colours are used on a terminal only, never with',
  '`NO_COLOR` or `--color never`. A reader that stops, such as `| head`, is no failure.'
]

process.stdout.write(await reference())

export async function reference(): Promise<string> {
  const commands = await Promise.all(verbs.map(async verb => (await verb.load()).command))
  const shared = [...meshOptions, ...clusterOptions, colourOption]
  return `${[
    '# Command line',
    '',
    '`underpass <command>`: every command explains itself with `--help`. This page is generated from the commands.',
    '',
    'Exit codes: 0 fine, 1 usage or failure, 2 checks found errors, 3 partial result (some agents did not answer; they are',
    'named on stderr). Agents are reached only by port-forward through the API server: the user needs',
    '`create pods/portforward` and `list pods` in the namespace of the mesh.',
    '',
    ...commands.map(
      ({ name, aliases = [], summary }) => `- [\`${name}\`](#${name})${alsoCalled(aliases)}: ${summary}`
    ),
    '',
    '## Options of every command that asks the cluster',
    '',
    ...optionTable(shared),
    ...outputForPrograms,
    ...commands.flatMap(command => section(command))
  ].join('\n')}\n`

  function section(command: CommandSpec): string[] {
    const lines = ['', `## ${command.name}`, '', ...intro(command)]
    if (!isGroup(command)) return [...lines, ...leaf(command, command.name)]
    const inner = command.commands.flatMap(one => [
      '',
      `### ${command.name} ${one.name}`,
      '',
      ...intro(one),
      ...leaf(one, `${command.name} ${one.name}`)
    ])
    return [...lines, ...examples(command), ...inner]
  }

  function leaf(command: LeafCommand, path: string): string[] {
    const own = command.options.filter(option => option.hidden !== true && !shared.includes(option))
    const words = (command.arguments ?? []).map(({ name, required, variadic }) => {
      const text = variadic === true ? `${name}...` : name
      return required === true ? `<${text}>` : `[${text}]`
    })
    return [
      '```',
      ['underpass', path, ...words, ...(own.length === 0 ? [] : ['[options]'])].join(' '),
      '```',
      '',
      ...(command.arguments ?? []).map(({ name, help }) => `- \`${name}\`: ${help}`),
      ...(command.arguments === undefined ? [] : ['']),
      ...optionTable(own),
      ...examples(command)
    ]
  }
}

function intro({ summary, description, aliases = [] }: CommandSpec): string[] {
  const text = description ?? `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
  return [
    ...(aliases.length === 0 ? [] : [`Also ${aliases.map(alias => `\`${alias}\``).join(', ')}.`, '']),
    text,
    ''
  ]
}

function optionTable(options: readonly OptionSpec[]): string[] {
  const shown = options.filter(({ hidden }) => hidden !== true)
  if (shown.length === 0) return []
  return [
    '| option | meaning |',
    '|---|---|',
    ...shown.map(({ flags, help, choices, fallback }) => {
      const values = choices === undefined ? '' : ` (${choices.join(', ')})`
      const standard = fallback === undefined ? '' : `; default \`${fallback}\``
      return `| \`${flags}\` | ${help}${values}${standard} |`
    }),
    ''
  ]
}

function examples({ examples: list }: CommandSpec): string[] {
  return ['```', ...list.flatMap(({ what, command }) => [`# ${what}`, `underpass ${command}`]), '```']
}

function alsoCalled(aliases: readonly string[]): string {
  return aliases.length === 0 ? '' : ` (${aliases.map(alias => `\`${alias}\``).join(', ')})`
}
