/** Run as a process of its own, with `--expose-gc`: loads a large cluster, prints what it cost as JSON. */
import { measureLoad } from '../controlplane/xds/large-cluster.ts'
import type { Sample } from './figures.ts'

await using made = new AsyncDisposableStack()
const t = { teardown: (undo: () => unknown): void => made.defer(async () => void (await undo())) }
const { translatedMs, servedMs, heldMb, residentMb, later, changeMs } = await measureLoad(t, 10)
const sample: Sample = {
  'control plane, 10,000 pods: translated': translatedMs / 1000,
  'control plane, 10,000 pods: served to 10 clients': servedMs / 1000,
  'control plane, 10,000 pods: held': heldMb,
  'control plane, 10,000 pods: whole process': residentMb,
  'control plane: resources sent for one changed pod': Math.max(...later),
  'control plane: one changed pod at 10 clients': changeMs
}
process.stdout.write(`${JSON.stringify(sample)}\n`)
