/** Requests whose answers must be the same from the lab's store and from the real kube-apiserver. */

export interface Manifest {
  /** What the request is about. */
  readonly name: string
  /** Collection below the test's namespace (`{ns}`), or of the cluster. */
  readonly path: string
  readonly body: Readonly<Record<string, unknown>>
}

const apps = '/apis/apps/v1/namespaces/{ns}'
const core = '/api/v1/namespaces/{ns}'

const podTemplate = {
  metadata: { labels: { app: 'web' } },
  spec: { containers: [{ name: 'web', image: 'registry/web:1' }] }
}
const selector = { matchLabels: { app: 'web' } }

/** Accepted requests: defaults, allocation and pruning are compared field by field. */
export const accepted: readonly Manifest[] = [
  {
    name: 'a pod with one container',
    path: `${core}/pods`,
    body: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'small' },
      spec: { containers: [{ name: 'c', image: 'i' }] }
    }
  },
  {
    name: 'a pod with probes, ports, volumes, environment and an init container',
    path: `${core}/pods`,
    body: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'full', labels: { app: 'full' }, annotations: { note: 'kept' } },
      spec: {
        automountServiceAccountToken: false,
        initContainers: [{ name: 'init', image: 'busybox:latest', command: ['true'] }],
        containers: [
          {
            name: 'web',
            image:
              'registry:5000/web@sha256:0123456789012345678901234567890123456789012345678901234567890123',
            ports: [{ containerPort: 80 }, { name: 'dns', containerPort: 53, protocol: 'UDP' }],
            env: [
              { name: 'A', value: 'b' },
              { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
              { name: 'S', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }
            ],
            readinessProbe: { httpGet: { port: 80 } },
            livenessProbe: { tcpSocket: { port: 80 }, initialDelaySeconds: 3 },
            startupProbe: { grpc: { port: 9000 } },
            lifecycle: { preStop: { httpGet: { port: 80 } } },
            resources: { requests: { cpu: '100m', memory: '64Mi' } },
            volumeMounts: [{ name: 'data', mountPath: '/data' }]
          }
        ],
        volumes: [
          { name: 'data' },
          { name: 'config', configMap: { name: 'm' } },
          { name: 'secret', secret: { secretName: 's' } },
          { name: 'host', hostPath: { path: '/tmp' } },
          {
            name: 'all',
            projected: {
              sources: [
                { serviceAccountToken: { audience: 'istio-ca', path: 'token' } },
                { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } }
              ]
            }
          }
        ]
      }
    }
  },
  {
    name: 'a pod of the host network with limits',
    path: `${core}/pods`,
    body: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'host' },
      spec: {
        hostNetwork: true,
        automountServiceAccountToken: false,
        nodeSelector: { disk: 'ssd' },
        tolerations: [{ operator: 'Exists' }],
        containers: [
          {
            name: 'c',
            image: 'i:2',
            ports: [{ containerPort: 8080 }],
            resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '1', memory: '1Gi' } }
          }
        ]
      }
    }
  },
  {
    name: 'a Deployment',
    path: `${apps}/deployments`,
    body: {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web' },
      spec: { selector, template: podTemplate }
    }
  },
  {
    name: 'a Deployment that recreates',
    path: `${apps}/deployments`,
    body: {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'again' },
      spec: { replicas: 0, strategy: { type: 'Recreate' }, selector, template: podTemplate }
    }
  },
  {
    name: 'a ReplicaSet',
    path: `${apps}/replicasets`,
    body: {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: { name: 'web' },
      spec: { selector, template: podTemplate }
    }
  },
  {
    name: 'a StatefulSet',
    path: `${apps}/statefulsets`,
    body: {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'db' },
      spec: { serviceName: 'db', selector, template: podTemplate }
    }
  },
  {
    name: 'a DaemonSet',
    path: `${apps}/daemonsets`,
    body: {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'agent' },
      spec: { selector, template: podTemplate }
    }
  },
  {
    name: 'a Job',
    path: '/apis/batch/v1/namespaces/{ns}/jobs',
    body: {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'once' },
      spec: { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } }
    }
  },
  {
    name: 'a CronJob',
    path: '/apis/batch/v1/namespaces/{ns}/cronjobs',
    body: {
      apiVersion: 'batch/v1',
      kind: 'CronJob',
      metadata: { name: 'often' },
      spec: {
        schedule: '*/5 * * * *',
        jobTemplate: {
          spec: {
            template: { spec: { restartPolicy: 'OnFailure', containers: [{ name: 'c', image: 'i' }] } }
          }
        }
      }
    }
  },
  {
    name: 'a Service with a cluster address',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }], clusterIP: '10.96.0.77' }
    }
  },
  {
    name: 'a headless Service',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'headless' },
      spec: { clusterIP: 'None', selector: { app: 'web' }, ports: [{ port: 80 }] }
    }
  },
  {
    name: 'a headless Service without selector',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'manual' },
      spec: { clusterIP: 'None', ports: [{ port: 80 }] }
    }
  },
  {
    name: 'an ExternalName Service',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'outside' },
      spec: { type: 'ExternalName', externalName: 'example.org' }
    }
  },
  {
    name: 'a NodePort Service with client affinity',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'node' },
      spec: {
        type: 'NodePort',
        clusterIP: '10.96.0.78',
        sessionAffinity: 'ClientIP',
        ports: [
          { name: 'a', port: 80, nodePort: 30080 },
          { name: 'b', port: 53, protocol: 'UDP', nodePort: 30053 }
        ]
      }
    }
  },
  {
    name: 'a LoadBalancer Service',
    path: `${core}/services`,
    body: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'lb' },
      spec: {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.79',
        externalTrafficPolicy: 'Cluster',
        ports: [{ port: 80, nodePort: 30081 }]
      }
    }
  },
  {
    name: 'a ConfigMap',
    path: `${core}/configmaps`,
    body: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'm' },
      data: { a: 'b' },
      binaryData: { c: 'AAE=' }
    }
  },
  {
    name: 'a Secret from text',
    path: `${core}/secrets`,
    body: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { k: 'v' } }
  },
  {
    name: 'a ServiceAccount',
    path: `${core}/serviceaccounts`,
    body: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'web' } }
  },
  {
    name: 'Endpoints',
    path: `${core}/endpoints`,
    body: {
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { name: 'manual' },
      subsets: [{ addresses: [{ ip: '10.1.0.1' }], ports: [{ port: 80 }] }]
    }
  },
  {
    name: 'an EndpointSlice',
    path: '/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices',
    body: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'manual-1', labels: { 'kubernetes.io/service-name': 'manual' } },
      addressType: 'IPv4',
      ports: [{ port: 80 }],
      endpoints: [{ addresses: ['10.1.0.1'], conditions: { ready: true } }]
    }
  },
  {
    name: 'a NetworkPolicy',
    path: '/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies',
    body: {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'deny' },
      spec: {
        podSelector: {},
        ingress: [{ ports: [{ port: 80 }], from: [{ podSelector: { matchLabels: { a: 'b' } } }] }]
      }
    }
  },
  {
    name: 'an Ingress',
    path: '/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses',
    body: {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'Ingress',
      metadata: { name: 'web' },
      spec: {
        rules: [
          {
            host: 'web.example.org',
            http: {
              paths: [
                { path: '/', pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 80 } } } }
              ]
            }
          }
        ]
      }
    }
  },
  {
    name: 'a Role',
    path: '/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles',
    body: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'reader' },
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }]
    }
  },
  {
    name: 'a RoleBinding',
    path: '/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings',
    body: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'reader' },
      roleRef: { kind: 'Role', name: 'reader' },
      subjects: [
        { kind: 'ServiceAccount', name: 'web', namespace: 'x' },
        { kind: 'User', name: 'eve' }
      ]
    }
  },
  {
    name: 'a Lease',
    path: '/apis/coordination.k8s.io/v1/namespaces/{ns}/leases',
    body: {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'leader' },
      spec: { holderIdentity: 'a', renewTime: '2026-01-01T00:00:00.000000Z' }
    }
  },
  {
    name: 'a PodDisruptionBudget',
    path: '/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets',
    body: {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'web' },
      spec: { minAvailable: 1, selector }
    }
  },
  {
    name: 'a HorizontalPodAutoscaler',
    path: '/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers',
    body: {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'web' },
      spec: {
        maxReplicas: 3,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
        metrics: [
          {
            type: 'Resource',
            resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } }
          }
        ]
      }
    }
  },
  {
    name: 'a PersistentVolumeClaim',
    path: `${core}/persistentvolumeclaims`,
    body: {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'data' },
      spec: {
        accessModes: ['ReadWriteOnce'],
        storageClassName: 'x',
        resources: { requests: { storage: '1Gi' } }
      }
    }
  },
  {
    name: 'an Event',
    path: `${core}/events`,
    body: {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'e.1' },
      involvedObject: { kind: 'Pod', name: 'small', namespace: '{ns}' },
      reason: 'Started',
      message: 'started',
      type: 'Normal',
      count: 1,
      source: { component: 'kubelet' }
    }
  },
  {
    name: 'a Namespace',
    path: '/api/v1/namespaces',
    body: {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'another', labels: { 'istio.io/dataplane-mode': 'ambient' } }
    }
  },
  {
    name: 'a Node',
    path: '/api/v1/nodes',
    body: { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' }, spec: { podCIDR: '10.244.1.0/24' } }
  },
  {
    name: 'a StorageClass',
    path: '/apis/storage.k8s.io/v1/storageclasses',
    body: {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: 'fast' },
      provisioner: 'example.org/fast'
    }
  },
  {
    name: 'a PriorityClass',
    path: '/apis/scheduling.k8s.io/v1/priorityclasses',
    body: {
      apiVersion: 'scheduling.k8s.io/v1',
      kind: 'PriorityClass',
      metadata: { name: 'high' },
      value: 1000
    }
  },
  {
    name: 'a ValidatingWebhookConfiguration',
    path: '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations',
    body: {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: 'none' },
      webhooks: []
    }
  },
  {
    name: 'a CustomResourceDefinition',
    path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    body: {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'gears.example.org' },
      spec: {
        group: 'example.org',
        scope: 'Namespaced',
        names: { plural: 'gears', kind: 'Gear' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: { spec: { type: 'object', properties: { teeth: { type: 'integer' } } } }
              }
            }
          }
        ]
      }
    }
  }
]

const web = (spec: object): Readonly<Record<string, unknown>> => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'wrong' },
  spec
})
const pod = (spec: object, metadata: object = { name: 'wrong' }): Readonly<Record<string, unknown>> => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata,
  spec
})
const service = (spec: object, name = 'wrong'): Readonly<Record<string, unknown>> => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec
})
const c = { name: 'c', image: 'i' }

/** Refused requests: status, reason and the fields that are named are compared. */
export const refused: readonly Manifest[] = [
  { name: 'a name with capitals', path: `${core}/pods`, body: pod({ containers: [c] }, { name: 'Wrong' }) },
  { name: 'no name at all', path: `${core}/pods`, body: pod({ containers: [c] }, {}) },
  {
    name: 'a label value with a space',
    path: `${core}/pods`,
    body: pod({ containers: [c] }, { name: 'wrong', labels: { a: 'b c' } })
  },
  {
    name: 'a label key with two slashes',
    path: `${core}/pods`,
    body: pod({ containers: [c] }, { name: 'wrong', labels: { 'a/b/c': '' } })
  },
  { name: 'a pod without containers', path: `${core}/pods`, body: pod({ containers: [] }) },
  { name: 'a container without name', path: `${core}/pods`, body: pod({ containers: [{ image: 'i' }] }) },
  { name: 'a container without image', path: `${core}/pods`, body: pod({ containers: [{ name: 'c' }] }) },
  { name: 'two containers of one name', path: `${core}/pods`, body: pod({ containers: [c, c] }) },
  {
    name: 'a container port out of range',
    path: `${core}/pods`,
    body: pod({ containers: [{ ...c, ports: [{ containerPort: 70000 }] }] })
  },
  {
    name: 'an unknown protocol',
    path: `${core}/pods`,
    body: pod({ containers: [{ ...c, ports: [{ containerPort: 80, protocol: 'ICMP' }] }] })
  },
  {
    name: 'an unknown restart policy',
    path: `${core}/pods`,
    body: pod({ restartPolicy: 'Perhaps', containers: [c] })
  },
  {
    name: 'a mount of a volume that is not there',
    path: `${core}/pods`,
    body: pod({ containers: [{ ...c, volumeMounts: [{ name: 'v', mountPath: '/v' }] }] })
  },
  {
    name: 'a probe without handler',
    path: `${core}/pods`,
    body: pod({ containers: [{ ...c, readinessProbe: { periodSeconds: 1 } }] })
  },
  {
    name: 'a pod of a missing service account',
    path: `${core}/pods`,
    body: pod({ serviceAccountName: 'nobody', containers: [c] })
  },
  {
    name: 'text in place of a number',
    path: `${apps}/deployments`,
    body: web({ replicas: 'two', selector, template: podTemplate })
  },
  { name: 'an object in place of a list', path: `${core}/pods`, body: pod({ containers: c }) },
  {
    name: 'a Deployment whose selector matches nothing',
    path: `${apps}/deployments`,
    body: web({ selector: { matchLabels: { app: 'other' } }, template: podTemplate })
  },
  {
    name: 'a Deployment without selector',
    path: `${apps}/deployments`,
    body: web({ template: podTemplate })
  },
  {
    name: 'negative replicas',
    path: `${apps}/deployments`,
    body: web({ replicas: -1, selector, template: podTemplate })
  },
  {
    name: 'a Deployment whose pods restart never',
    path: `${apps}/deployments`,
    body: web({
      selector,
      template: { ...podTemplate, spec: { ...podTemplate.spec, restartPolicy: 'Never' } }
    })
  },
  {
    name: 'a Job whose pods restart always',
    path: '/apis/batch/v1/namespaces/{ns}/jobs',
    body: {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: { name: 'wrong' },
      spec: { template: { spec: { containers: [c] } } }
    }
  },
  { name: 'a Service without ports', path: `${core}/services`, body: service({ selector: { a: 'b' } }) },
  { name: 'a Service port of 0', path: `${core}/services`, body: service({ ports: [{ port: 0 }] }) },
  {
    name: 'two Service ports without names',
    path: `${core}/services`,
    body: service({ ports: [{ port: 1 }, { port: 2 }] })
  },
  {
    name: 'two Service ports of one name',
    path: `${core}/services`,
    body: service({
      ports: [
        { name: 'a', port: 1 },
        { name: 'a', port: 2 }
      ]
    })
  },
  {
    name: 'two equal Service ports',
    path: `${core}/services`,
    body: service({
      ports: [
        { name: 'a', port: 1 },
        { name: 'b', port: 1 }
      ]
    })
  },
  {
    name: 'an unknown Service type',
    path: `${core}/services`,
    body: service({ type: 'Best', ports: [{ port: 1 }] })
  },
  {
    name: 'a Service name that starts with a digit-dot',
    path: `${core}/services`,
    body: service({ ports: [{ port: 1 }] }, 'a.b')
  },
  {
    name: 'a cluster address outside of the range',
    path: `${core}/services`,
    body: service({ clusterIP: '192.0.2.1', ports: [{ port: 1 }] })
  },
  {
    name: 'a cluster address that is none',
    path: `${core}/services`,
    body: service({ clusterIP: 'somewhere', ports: [{ port: 1 }] })
  },
  {
    name: 'a node port outside of the range',
    path: `${core}/services`,
    body: service({ type: 'NodePort', ports: [{ port: 1, nodePort: 80 }] })
  },
  {
    name: 'an ExternalName Service without name',
    path: `${core}/services`,
    body: service({ type: 'ExternalName' })
  },
  {
    name: 'a Secret that is not base64',
    path: `${core}/secrets`,
    body: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'wrong' }, data: { k: '%%%' } }
  },
  {
    name: 'a ConfigMap key with a slash',
    path: `${core}/configmaps`,
    body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'wrong' }, data: { 'a/b': '' } }
  },
  {
    name: 'another kind than the path says',
    path: `${core}/pods`,
    body: { apiVersion: 'v1', kind: 'Service', metadata: { name: 'wrong' } }
  },
  {
    name: 'another namespace than the path says',
    path: `${core}/pods`,
    body: pod({ containers: [c] }, { name: 'wrong', namespace: 'elsewhere' })
  },
  {
    name: 'an owner without uid',
    path: `${core}/pods`,
    body: pod(
      { containers: [c] },
      { name: 'wrong', ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x' }] }
    )
  },
  {
    name: 'an EndpointSlice without address type',
    path: '/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices',
    body: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'wrong' },
      endpoints: []
    }
  },
  {
    name: 'a definition with another name than its group and plural',
    path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    body: {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'wrong.example.org' },
      spec: {
        group: 'example.org',
        scope: 'Namespaced',
        names: { plural: 'right', kind: 'Right' },
        versions: [
          { name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }
        ]
      }
    }
  },
  {
    name: 'a definition without schema',
    path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    body: {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'wrong.example.org' },
      spec: {
        group: 'example.org',
        scope: 'Namespaced',
        names: { plural: 'wrong', kind: 'Wrong' },
        versions: [{ name: 'v1', served: true, storage: true }]
      }
    }
  }
]
