import t from 'tap'
import { applyOrder, parseManifests, readManifests } from '../../lab/manifests.ts'
import { formatObjects } from '../../lab/kubectl-table.ts'
import { valueAt } from '../../lab/kubectl.ts'
import { formatStatus, statusRows } from '../../lab/running.ts'
import { labPods, type LabPod } from '../../lab/kinds.ts'

const names = (text: string) =>
  parseManifests(text, 'x.yaml').map(({ object }) => `${object.kind}/${object.metadata.name}`)

t.test('every object of a file is found, also in lists and as JSON', async t => {
  t.strictSame(
    names(
      'apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n'
    ),
    ['Pod/a', 'Pod/b']
  )
  t.strictSame(
    names(
      '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}'
    ),
    ['Pod/a']
  )
})

t.test('what is no object is refused with its file and line', async t => {
  t.throws(() => parseManifests('kind: Pod\n', 'x.yaml'), {
    message: 'x.yaml:1: not a Kubernetes object: it has no apiVersion or no kind'
  })
  t.throws(() => parseManifests('apiVersion: v1\nkind: Pod\n', 'x.yaml'), {
    message: 'x.yaml:1: Pod without metadata.name'
  })
  t.throws(() => parseManifests('a: [', 'x.yaml'), { message: /^x\.yaml:\d+:\d+: / })
  t.throws(() => readManifests('https://example.org/x.yaml'), {
    message: /the lab fetches nothing; download it first/
  })
  const folder = t.testdir({
    'empty.yaml': '# nothing\n',
    folder: { 'notes.md': '' },
    'program.yaml': Buffer.from('\u007fELF\0\0'),
    'huge.yaml': `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata: {x: ${'x'.repeat(4 << 20)}}`,
    'many.yaml': `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(9)}]\nc: [${'*b,'.repeat(90)}]\n`
  })
  for (const [name, message] of [
    ['empty.yaml', /empty\.yaml: there is no Kubernetes object in it/],
    ['folder', /folder: there is no Kubernetes object in it/],
    ['program.yaml', /program\.yaml: not YAML or JSON, but a binary file/],
    ['huge.yaml', /huge\.yaml:1: ConfigMap big is 4\.0 MiB; the API takes 3 MiB at most/],
    ['many.yaml', /many\.yaml:1: .*alias/]
  ] as const) {
    t.throws(() => readManifests(`${folder}/${name}`), { message }, name)
  }
  t.throws(() => readManifests('/nonexistent.yaml'), { name: 'ManifestError', message: /nonexistent/ })
})

t.test('a folder is read file by file', async t => {
  const folder = t.testdir({
    'b.yaml': 'apiVersion: v1\nkind: Pod\nmetadata: {name: b}',
    'a.yml': 'apiVersion: v1\nkind: Pod\nmetadata: {name: a}',
    'notes.md': '#'
  })
  t.strictSame(
    readManifests(folder).map(({ object }) => object.metadata.name),
    ['a', 'b']
  )
})

t.test('what others need is applied first', async t => {
  const kinds = ['Deployment', 'Service', 'Namespace', 'ServiceAccount', 'CustomResourceDefinition']
  const manifests = kinds.map(kind => ({
    object: { apiVersion: 'v1', kind, metadata: { name: 'x' } },
    where: ''
  }))
  t.strictSame(
    applyOrder(manifests).map(({ object }) => object.kind),
    ['Namespace', 'CustomResourceDefinition', 'ServiceAccount', 'Service', 'Deployment']
  )
})

const pod: LabPod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'web',
    namespace: 'shop',
    creationTimestamp: '2026-01-01T00:00:00Z',
    annotations: { 'ambient.istio.io/redirection': 'enabled' }
  },
  spec: { nodeName: 'node1', containers: [{ name: 'web' }] },
  status: {
    phase: 'Running',
    podIP: '10.244.1.2',
    containerStatuses: [
      {
        name: 'web',
        image: 'web:1',
        imageID: 'lab://stand-in: the image web:1 is not here',
        ready: false,
        started: true,
        restartCount: 2,
        state: { waiting: { reason: 'CrashLoopBackOff', message: 'starts again in 2 s; it ended with 1' } },
        lastState: {}
      }
    ]
  }
}

t.test('tables show what a tour needs', async t => {
  const now = Date.parse('2026-01-01T00:01:00Z')
  t.equal(
    formatObjects(labPods, [pod], true, now),
    'NAMESPACE   NAME   READY   STATUS             RESTARTS   IP           NODE    AGE\n' +
      'shop        web    0/1     CrashLoopBackOff   2          10.244.1.2   node1   60s\n'
  )
  t.match(formatStatus(statusRows(pod)), /node1 +shop +web +web +no +2 +yes +starts again in 2 s/)
})

t.test('a path of JSON leads through names, indexes and quoted keys', async t => {
  t.equal(valueAt(pod, '{.status.phase}'), 'Running')
  t.equal(valueAt(pod, '{.spec.containers[0].name}'), 'web')
  t.equal(valueAt(pod, "{.metadata.annotations['ambient.istio.io/redirection']}"), 'enabled')
  t.equal(valueAt(pod, String.raw`{.metadata.annotations.ambient\.istio\.io/redirection}`), 'enabled')
  t.equal(valueAt(pod, '{.nothing.here}'), '')
})
