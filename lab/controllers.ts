/** The controllers of the lab's control plane, as kube-controller-manager and kube-scheduler run them. */
import { daemonSetController } from './controllers/daemon-set.ts'
import { deploymentController } from './controllers/deployment.ts'
import { endpointSliceController } from './controllers/endpoint-slice.ts'
import { jobController } from './controllers/job.ts'
import { namespaceContentController } from './controllers/namespace-content.ts'
import type { Controller } from './controllers/reconciler.ts'
import { replicaSetController } from './controllers/replica-set.ts'
import { scheduler, type Bind } from './controllers/scheduler.ts'
import { statefulSetController } from './controllers/stateful-set.ts'

export function allControllers(options: {
  readonly bind: Bind
  readonly caPem: string
}): readonly Controller[] {
  return [
    namespaceContentController(options.caPem),
    scheduler(options.bind),
    replicaSetController,
    deploymentController,
    statefulSetController,
    daemonSetController,
    jobController,
    endpointSliceController
  ]
}
