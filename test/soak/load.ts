/** A large mesh from the same control plane to each kind of ztunnel, one after the other. */
import { loadMesh, type LoadFigures } from '../support/mesh-load.ts'
import type { LargeMesh } from '../support/large-mesh.ts'
import type { ProxyOptions, Teardown } from '../support/two-nodes.ts'

type Kind = ProxyOptions['kind']

const names: Readonly<Record<Kind, string>> = { underpass: 'Underpass', rust: 'Rust ztunnel' }

const rows: readonly { readonly name: string; readonly of: (figures: LoadFigures) => string }[] = [
  { name: 'one response of MB', of: ({ bytes }) => (bytes / 1e6).toFixed(1) },
  { name: 'taken and acknowledged after s', of: ({ seconds }) => seconds.toFixed(2) },
  { name: 'one more change acknowledged after ms', of: ({ changeMs }) => changeMs.toFixed(1) },
  { name: 'resident at most, MiB', of: ({ peakMiB }) => peakMiB.toFixed(0) },
  { name: 'resident afterwards, MiB', of: ({ restMiB }) => restMiB.toFixed(0) }
]

/** A Markdown table. */
export async function loadTable(
  t: Teardown,
  { kinds, ...mesh }: LargeMesh & { readonly kinds: readonly Kind[] }
): Promise<string> {
  const columns: LoadFigures[] = []
  for (const kind of kinds) {
    const { proxy, figures } = await loadMesh(t, { kind, ...mesh })
    columns.push(figures)
    await proxy.stop()
  }
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    `${mesh.workloads.toLocaleString('en')} workloads and ${mesh.services.toLocaleString('en')} services:`,
    '',
    line(['', ...kinds.map(kind => names[kind])]),
    line(['---', ...kinds.map(() => '---:')]),
    ...rows.map(({ name, of }) => line([name, ...columns.map(of)]))
  ].join('\n')
}
