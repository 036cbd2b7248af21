/** Documentation as a script: the blocks marked `sh` of a Markdown file, run in their order. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const root = path.resolve(import.meta.dirname, '../..')
const execute = promisify(execFile)

export interface Block {
  /** The nearest heading above. */
  readonly heading: string
  /** Of the block's first line of commands, from 1. */
  readonly line: number
  readonly script: string
}

/** Blocks that start with three backticks and `sh`; others, such as `text`, are for reading. */
export function blocksOf(markdown: string): readonly Block[] {
  const blocks: Block[] = []
  let heading = ''
  let open: { readonly line: number; readonly runs: boolean; readonly lines: string[] } | undefined
  for (const [index, line] of markdown.split('\n').entries()) {
    const fence = /^```(\w*)/.exec(line)
    if (open !== undefined && fence === null) open.lines.push(line)
    else if (open !== undefined) {
      if (open.runs) blocks.push({ heading, line: open.line, script: open.lines.join('\n') })
      open = undefined
    } else if (fence !== null) open = { line: index + 2, runs: fence[1] === 'sh', lines: [] }
    else heading = /^#+ +(.*)/.exec(line)?.[1] ?? heading
  }
  return blocks
}

export interface RunOptions {
  readonly env: Readonly<Record<string, string>>
  /** Only blocks below headings that this accepts. */
  readonly headings?: (heading: string) => boolean
  /** Called after each block, with all that it printed. */
  readonly after?: (block: Block, output: string) => Promise<void> | void
}

/** `underpass` is on the PATH, as a reader of the document has it. Throws at the first block that fails. */
export async function runDocument(
  file: string,
  { env, headings = () => true, after }: RunOptions
): Promise<void> {
  const blocks = blocksOf(readFileSync(path.join(root, file), 'utf8')).filter(({ heading }) =>
    headings(heading)
  )
  if (blocks.length === 0) throw new Error(`${file} has no commands there`)
  const PATH = `${path.join(root, 'cli/bin')}:${env['PATH'] ?? process.env['PATH']}`
  for (const block of blocks) {
    const output = await runBlock(file, block, { ...process.env, ...env, PATH })
    await after?.(block, output)
  }
}

async function runBlock(file: string, block: Block, env: NodeJS.ProcessEnv): Promise<string> {
  try {
    const { stdout, stderr } = await execute('sh', ['-euc', block.script], {
      cwd: root,
      env,
      timeout: 300_000,
      maxBuffer: 64 << 20
    })
    return stdout + stderr
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`${file}:${block.line} failed:\n${block.script}\n${stdout}${stderr}`, { cause: error })
  }
}
