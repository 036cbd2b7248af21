/** What `underpass check` can find: ids that never change their meaning, with the remedy of each. */

export type Severity = 'error' | 'warning' | 'info'

interface Check {
  readonly severity: Severity
  /** What is looked for, as a statement of what is wrong. */
  readonly title: string
  readonly remedy: string
  /** Also asked before there is a mesh, by `--pre`. */
  readonly pre?: boolean
}

/** One id is never used again for something else. */
export const checks = {
  UP0001: {
    severity: 'error',
    title: 'The API server is too old',
    remedy: 'upgrade Kubernetes to 1.30 or later',
    pre: true
  },
  UP0002: {
    severity: 'warning',
    title: 'You lack a permission that a command needs',
    remedy: 'ask for it; `underpass install --print-rbac` prints what installing takes',
    pre: true
  },
  UP0003: {
    severity: 'warning',
    title: 'Another mesh has a part that this one would bring',
    remedy: 'take over one part at a time with `underpass install --replace PART`',
    pre: true
  },
  UP0004: {
    severity: 'warning',
    title: "A definition of Istio's or the Gateway API's kinds is missing or older than ours",
    remedy: '`underpass install` creates missing ones; upgrade older ones with what brought them',
    pre: true
  },
  UP0005: {
    severity: 'warning',
    title: 'The kernel of a node is older than 5.10, the oldest that is tested',
    remedy: 'upgrade the node, or keep enrolled pods off it',
    pre: true
  },
  UP0006: {
    severity: 'info',
    title: 'A node runs Windows',
    remedy: 'its pods cannot join; nothing is scheduled there',
    pre: true
  },
  UP0007: {
    severity: 'error',
    title: 'Cilium removes the CNI configuration of others',
    remedy: 'set `cni.exclusive=false` in its Helm values',
    pre: true
  },
  UP0008: {
    severity: 'error',
    title: "Cilium's BPF masquerading breaks health checks of enrolled pods",
    remedy: 'set `bpf.masquerade=false` in its Helm values',
    pre: true
  },
  UP0009: {
    severity: 'error',
    title: "Cilium's socket load balancer hides the addresses of Services from the mesh",
    remedy: 'set `socketLB.hostNamespaceOnly=true` in its Helm values',
    pre: true
  },
  UP0010: {
    severity: 'warning',
    title: "Calico's eBPF data plane bypasses capture rules of pods",
    remedy: 'set `bpfConnectTimeLoadBalancing: Disabled` in its FelixConfiguration',
    pre: true
  },
  UP0011: {
    severity: 'error',
    title: 'Network policies let applications be reached, but not port 15008 of their pods',
    remedy: 'allow TCP port 15008 to the same peers: all traffic between enrolled pods comes there'
  },
  UP0012: {
    severity: 'warning',
    title: 'Network policies let nothing in to enrolled pods',
    remedy: 'if they shall be reached: allow TCP port 15008 besides what you allow to them'
  },
  UP0013: {
    severity: 'error',
    title: 'Network policies let connections out, but not to port 15008',
    remedy: 'allow TCP port 15008 to the same peers'
  },
  UP0014: {
    severity: 'warning',
    title: 'Network policies of Cilium keep health checks from enrolled pods',
    remedy: 'allow ingress from 169.254.7.127/32, the source that probes get on the way to enrolled pods'
  },
  UP0015: {
    severity: 'error',
    title: 'A part of the mesh is missing or not ready',
    remedy: 'see why its pod does not start; `underpass install` waits and tells'
  },
  UP0016: {
    severity: 'warning',
    title: 'Versions differ by more than a rolling upgrade bridges',
    remedy: 'upgrade one minor version at a time with `underpass upgrade`'
  },
  UP0017: {
    severity: 'warning',
    title: 'The clock of a node differs from that of this machine',
    remedy: 'certificates depend on time: set both clocks by NTP',
    pre: true
  },
  UP0018: {
    severity: 'error',
    title: 'A pod should be in the mesh and its traffic is in the clear',
    remedy: 'see the reason in `underpass pods --unprotected`, and the log of the node agent'
  },
  UP0019: {
    severity: 'error',
    title: 'A certificate has expired, is about to, or cannot be had',
    remedy: 'see `underpass config certificates` and the log of ztunnel and the control plane'
  },
  UP0020: {
    severity: 'error',
    title: 'An agent did not answer',
    remedy: 'see whether its pod runs and whether you may `create pods/portforward`'
  },
  UP0021: {
    severity: 'warning',
    title: 'Policies at a waypoint can be bypassed',
    remedy: 'add an AuthorizationPolicy that allows only the identity of the waypoint to reach the pods'
  },
  UP0022: {
    severity: 'warning',
    title: 'Pod security admission would refuse the agents',
    remedy: 'label the namespace `pod-security.kubernetes.io/enforce=privileged`',
    pre: true
  },
  UP0023: {
    severity: 'warning',
    title: 'A container runtime that is not tested',
    remedy: 'containerd and CRI-O are; see whether pods are enrolled with `underpass pods`',
    pre: true
  }
} as const satisfies Readonly<Record<string, Check>>

export type CheckId = keyof typeof checks

export interface Finding {
  readonly id: CheckId
  readonly severity: Severity
  /** `kind namespace/name`. */
  readonly object: string
  readonly problem: string
  readonly remedy: string
}

/** A finding of this kind; `severity` where it depends on the case. */
export function finding(id: CheckId, object: string, problem: string, severity?: Severity): Finding {
  const { remedy } = checks[id]
  return { id, severity: severity ?? checks[id].severity, object, problem, remedy }
}

const ranks: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 }

/** Worst first, then by id and object. */
export function bySeverity(a: Finding, b: Finding): number {
  return ranks[a.severity] - ranks[b.severity] || a.id.localeCompare(b.id) || a.object.localeCompare(b.object)
}

/** The page of the documentation. */
export function checksReference(): string {
  const rows = Object.entries(checks).map(
    ([id, check]) =>
      `| ${id} | ${check.severity} | ${'pre' in check ? 'yes' : ''} | ${check.title} | ${check.remedy} |`
  )
  return `# Findings of \`underpass check\`

An id never changes its meaning. \`--pre\` asks what can be known before there is a mesh. Exit code 2: an error was found.
This page is generated from the checks.

| id | severity | \`--pre\` | what is wrong | remedy |
|---|---|---|---|---|
${rows.join('\n')}
`
}
