/** What the installer makes of a folder of network configurations. */
import t from 'tap'
import {
  type ChainPlan,
  type ChainWish,
  type Change,
  isConfigurationName,
  planChain,
  planRemoval
} from '../../daemonset/cni-install/chain.ts'

const ours = {
  type: 'istio-cni',
  cni_agent_run_dir: '/var/run/istio-cni',
  exclude_namespaces: ['kube-system']
}
const older = { type: 'istio-cni', kubeconfig: '/etc/cni/net.d/ZZZ-istio-cni-kubeconfig' }
const bridge = {
  type: 'bridge',
  bridge: 'cni0',
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.0.0.0/24' }]] }
}
const portmap = { type: 'portmap', capabilities: { portMappings: true } }
const loopback = { cniVersion: '1.0.0', name: 'lo', type: 'loopback' }
const conf = { cniVersion: '0.3.1', name: 'net', ...bridge }

const wish: ChainWish = {
  confName: undefined,
  place: 'shared',
  ownName: '02-istio-cni.conflist',
  entry: ours,
  last: undefined
}
const own: ChainWish = { ...wish, place: 'own' }

function list(...plugins: readonly object[]): object {
  return {
    cniVersion: '1.0.0',
    name: 'podnet',
    disableCheck: true,
    'x-vendor': { kept: [1, 'two'] },
    plugins
  }
}

/** Files with objects for JSON, or with their text. */
type Folder = Readonly<Record<string, object | string>>

function filesOf(folder: Folder): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(folder).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value, undefined, 2)
    ])
  )
}

function applied(folder: Folder, changes: readonly Change[]): Folder {
  const files: Record<string, object | string> = { ...folder }
  for (const change of changes) {
    if (change.kind === 'remove') delete files[change.file]
    else files[change.file] = JSON.parse(change.text) as object
  }
  return files
}

const situations: readonly {
  name: string
  folder: Folder
  wish?: ChainWish
  /** The folder afterwards, and why it was changed. */
  expect: { readonly why: RegExp; readonly folder: Folder } | 'in place' | { readonly waits: RegExp }
}[] = [
  {
    name: 'our entry goes behind the others, whose unknown fields are kept',
    folder: { '10-bridge.conflist': list(bridge, portmap) },
    expect: { why: /is missing/, folder: { '10-bridge.conflist': list(bridge, portmap, ours) } }
  },
  {
    name: 'what is in place is left alone',
    folder: { '10-bridge.conflist': list(bridge, portmap, ours) },
    expect: 'in place'
  },
  {
    name: 'fields in another order are the same',
    folder: {
      '10-bridge.conflist': list(bridge, {
        exclude_namespaces: ['kube-system'],
        cni_agent_run_dir: '/var/run/istio-cni',
        type: 'istio-cni'
      })
    },
    expect: 'in place'
  },
  {
    name: 'an entry of an earlier version is replaced',
    folder: { '10-bridge.conflist': list(bridge, older) },
    expect: { why: /is another one/, folder: { '10-bridge.conflist': list(bridge, ours) } }
  },
  {
    name: 'an entry that somebody else put himself behind becomes the last again',
    folder: { '10-bridge.conflist': list(bridge, ours, portmap) },
    expect: { why: /not the last/, folder: { '10-bridge.conflist': list(bridge, portmap, ours) } }
  },
  {
    name: 'a duplicated entry is there once',
    folder: { '10-bridge.conflist': list(bridge, older, portmap, ours) },
    expect: { why: /2 times/, folder: { '10-bridge.conflist': list(bridge, portmap, ours) } }
  },
  {
    name: 'the first file in lexical order counts, however many digits the others have',
    folder: { '9-late.conflist': list(portmap), '10-first.conflist': list(bridge), '200-x.conf': conf },
    expect: {
      why: /is missing/,
      folder: {
        '9-late.conflist': list(portmap),
        '10-first.conflist': list(bridge, ours),
        '200-x.conf': conf
      }
    }
  },
  {
    name: 'the file that is named counts, whatever is before it',
    wish: { ...wish, confName: '20-other.conflist' },
    folder: { '10-first.conflist': list(bridge), '20-other.conflist': list(portmap) },
    expect: {
      why: /is missing/,
      folder: { '10-first.conflist': list(bridge), '20-other.conflist': list(portmap, ours) }
    }
  },
  {
    name: 'a named file that is not there is waited for, never replaced by another',
    wish: { ...wish, confName: '20-other.conflist' },
    folder: { '10-first.conflist': list(bridge) },
    expect: { waits: /20-other\.conflist is not there yet/ }
  },
  {
    name: 'a named file that is broken is waited for',
    wish: { ...wish, confName: '10-first.conflist' },
    folder: { '10-first.conflist': '{"name":', '20-other.conflist': list(portmap) },
    expect: { waits: /10-first\.conflist is not JSON/ }
  },
  {
    name: 'a .conf becomes a list under the new name',
    folder: { '10-net.conf': conf },
    expect: {
      why: /has to become a list/,
      folder: {
        '10-net.conflist': {
          cniVersion: '0.3.1',
          name: 'net',
          plugins: [conf, { ...ours, underpass_made_from: '10-net.conf' }]
        }
      }
    }
  },
  {
    name: 'a named .conf is found again once it is a list',
    wish: { ...wish, confName: '10-net.conf' },
    folder: { '10-net.conflist': list(conf, { ...ours, underpass_made_from: '10-net.conf' }) },
    expect: 'in place'
  },
  {
    name: 'a .conf that comes back beside the list made of it counts, as it does for the runtime',
    folder: { '10-net.conf': { ...conf, mtu: 1400 }, '10-net.conflist': list(conf, ours) },
    expect: {
      why: /has to become a list/,
      folder: {
        '10-net.conflist': {
          cniVersion: '0.3.1',
          name: 'net',
          plugins: [
            { ...conf, mtu: 1400 },
            { ...ours, underpass_made_from: '10-net.conf' }
          ]
        }
      }
    }
  },
  {
    name: 'broken files are passed over, as the runtime does',
    folder: {
      '01-empty.conflist': '',
      '02-text.conf': 'not json',
      '03-array.conflist': '[]',
      '04-no-plugins.conflist': { name: 'x', plugins: [] },
      '05-no-type.conf': { name: 'x' },
      '06-no-name.conflist': { plugins: [bridge] },
      '07-plugin-is-text.conflist': { name: 'x', plugins: ['bridge'] },
      '10-bridge.conflist': list(bridge)
    },
    expect: {
      why: /is missing/,
      folder: {
        '01-empty.conflist': '',
        '02-text.conf': 'not json',
        '03-array.conflist': '[]',
        '04-no-plugins.conflist': { name: 'x', plugins: [] },
        '05-no-type.conf': { name: 'x' },
        '06-no-name.conflist': { plugins: [bridge] },
        '07-plugin-is-text.conflist': { name: 'x', plugins: ['bridge'] },
        '10-bridge.conflist': list(bridge, ours)
      }
    }
  },
  {
    name: 'the file that held us is waited for while somebody writes it',
    wish: { ...wish, last: '10-bridge.conflist' },
    folder: { '10-bridge.conflist': '{"cniVers', '99-other.conflist': list(portmap) },
    expect: { waits: /10-bridge\.conflist is not JSON/ }
  },
  {
    name: 'a loopback alone is no network for pods',
    folder: { '99-loopback.conf': loopback },
    expect: { waits: /no plug-in that gives pods a network/ }
  },
  {
    name: 'what is left of us alone is no network either',
    folder: { '10-bridge.conflist': list(ours) },
    expect: { waits: /no plug-in that gives pods a network/ }
  },
  { name: 'an empty folder is waited for', folder: {}, expect: { waits: /is a network plug-in installed/ } },
  {
    name: 'backups and hidden files are nobody’s configuration',
    folder: {
      '10-bridge.conflist.cilium_bak': list(bridge),
      '.10-x.conflist': list(bridge),
      'README.md': 'x'
    },
    expect: { waits: /no valid network configuration/ }
  },
  {
    name: "our own copy leaves the primary's file alone",
    wish: own,
    folder: { '10-bridge.conflist': list(bridge, portmap) },
    expect: {
      why: /02-istio-cni\.conflist is missing/,
      folder: {
        '02-istio-cni.conflist': list(bridge, portmap, ours),
        '10-bridge.conflist': list(bridge, portmap)
      }
    }
  },
  {
    name: "our own copy follows the primary's changes",
    wish: own,
    folder: { '02-istio-cni.conflist': list(bridge, ours), '10-bridge.conflist': list(bridge, portmap) },
    expect: {
      why: /primary's configuration has changed/,
      folder: {
        '02-istio-cni.conflist': list(bridge, portmap, ours),
        '10-bridge.conflist': list(bridge, portmap)
      }
    }
  },
  {
    name: 'our own copy stays while the primary is not there yet: new pods wait',
    wish: own,
    folder: { '02-istio-cni.conflist': list(bridge, ours) },
    expect: 'in place'
  },
  {
    name: 'our own copy gets a new entry even before the primary is there',
    wish: own,
    folder: { '02-istio-cni.conflist': list(bridge, older) },
    expect: { why: /another one/, folder: { '02-istio-cni.conflist': list(bridge, ours) } }
  },
  {
    name: 'a copy that the runtime would not take first is refused',
    wish: own,
    folder: { '00-multus.conflist': list(bridge) },
    expect: { waits: /takes 00-multus\.conflist before 02-istio-cni\.conflist: set ISTIO_OWNED/ }
  },
  {
    name: 'changing to a copy takes our entry out of the primary',
    wish: own,
    folder: { '10-bridge.conflist': list(bridge, older) },
    expect: {
      why: /is missing/,
      folder: { '02-istio-cni.conflist': list(bridge, ours), '10-bridge.conflist': list(bridge) }
    }
  },
  {
    name: 'changing back from a copy removes it',
    folder: { '02-istio-cni.conflist': list(bridge, ours), '10-bridge.conflist': list(bridge) },
    expect: { why: /is missing/, folder: { '10-bridge.conflist': list(bridge, ours) } }
  }
]

for (const { name, folder, wish: wanted = wish, expect } of situations) {
  t.test(name, async t => {
    const plan = planChain(filesOf(folder), wanted)
    if (expect === 'in place') t.equal(plan.kind, 'in place')
    else if ('waits' in expect) t.match(plan, { kind: 'wait', why: expect.waits })
    else {
      t.match(plan, { kind: 'change', why: expect.why })
      const after = applied(folder, changesOf(plan))
      t.strictSame(after, expect.folder)
      t.match(planChain(filesOf(after), wanted), { kind: 'in place' }, 'and then there is nothing to do')
    }
  })
}

const removals: readonly { name: string; folder: Folder; expect: Folder }[] = [
  {
    name: 'our entry goes, everything else stays',
    folder: { '10-bridge.conflist': list(bridge, portmap, ours), '20-x.conflist': list(portmap) },
    expect: { '10-bridge.conflist': list(bridge, portmap), '20-x.conflist': list(portmap) }
  },
  {
    name: 'every file that has our entry is cleaned, whichever the runtime takes',
    folder: { '05-old.conflist': list(bridge, older), '10-bridge.conflist': list(ours, bridge, ours) },
    expect: { '05-old.conflist': list(bridge), '10-bridge.conflist': list(bridge) }
  },
  {
    name: 'a .conf that was made a list is a .conf again',
    folder: { '10-net.conflist': list(conf, { ...ours, underpass_made_from: '10-net.conf' }) },
    expect: { '10-net.conf': conf }
  },
  {
    name: 'unless somebody else has added to it',
    folder: { '10-net.conflist': list(conf, portmap, { ...ours, underpass_made_from: '10-net.conf' }) },
    expect: { '10-net.conflist': list(conf, portmap) }
  },
  {
    name: 'no name in a file leads out of its folder',
    folder: { '10-net.conflist': list(conf, { ...ours, underpass_made_from: '../../etc/x.conf' }) },
    expect: { '10-net.conflist': list(conf) }
  },
  {
    name: 'our own copy goes',
    folder: { '02-istio-cni.conflist': list(bridge, ours), '10-bridge.conflist': list(bridge) },
    expect: { '10-bridge.conflist': list(bridge) }
  },
  {
    name: 'what cannot be read is not touched',
    folder: { '10-bridge.conflist': '{"plugins":[{"type":"istio-cni"}' },
    expect: { '10-bridge.conflist': '{"plugins":[{"type":"istio-cni"}' }
  }
]

for (const { name, folder, expect } of removals) {
  t.test(`removal: ${name}`, async t => {
    const changes = [...filesOf(folder)].flatMap(([file, text]) => planRemoval({ file, text }, wish))
    t.strictSame(applied(folder, changes), expect)
  })
}

t.test('a list is written as it was indented', async t => {
  for (const indent of ['  ', '\t', '']) {
    const text = `${JSON.stringify(list(bridge, portmap), undefined, indent)}\n`
    const plan = planChain(new Map([['10-bridge.conflist', text]]), wish)
    const [written] = changesOf(plan)
    const [restored] = planRemoval({ file: '10-bridge.conflist', text: textOf(written) }, wish)
    t.equal(textOf(restored), text)
  }
})

t.test('temporary names are read by nobody', async t => {
  for (const name of ['.10-bridge.conflist.17.tmp', '10-bridge.conflist.tmp', '.conflist', 'conflist']) {
    t.notOk(isConfigurationName(name), name)
  }
})

function changesOf(plan: ChainPlan): readonly Change[] {
  return plan.kind === 'change' ? plan.changes : []
}

function textOf(change: Change | undefined): string {
  return change?.kind === 'write' ? change.text : ''
}
