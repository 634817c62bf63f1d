// What people do with the JavaScript client: `node verbs.mjs KUBECONFIG IMAGE`.
//
// Fails with a stack trace at the first thing that is not as Kubernetes has it.

import assert from 'node:assert/strict';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import * as k8s from '@kubernetes/client-node';

const [kubeconfig, image] = process.argv.slice(2);
const namespace = 'node';

const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(k8s.CoreV1Api);

async function refused(code, reason, call) {
    const error = await call().then(() => undefined, (error) => error);
    assert.ok(error, `${reason}: was not refused`);
    assert.equal(error.code, code, String(error));
    const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    assert.equal(body.reason, reason);
}

async function until(what, holds, seconds = 30) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const found = await holds();
        if (found) return found;
        assert.ok(Date.now() < end, `not within ${seconds} s: ${what}`);
        await sleep(100);
    }
}

async function configMaps() {
    const body = { metadata: { name: 'one' }, data: { k: 'v' } };
    const made = await core.createNamespacedConfigMap({ namespace, body });
    assert.ok(made.metadata.creationTimestamp instanceof Date);
    await refused(409, 'AlreadyExists', () => core.createNamespacedConfigMap({ namespace, body }));
    await refused(404, 'NotFound', () => core.readNamespacedConfigMap({ name: 'none', namespace }));
    const patch = [{ op: 'add', path: '/data/n', value: 'm' }];
    const patched = await core.patchNamespacedConfigMap({ name: 'one', namespace, body: patch });
    assert.deepEqual(patched.data, { k: 'v', n: 'm' });
    await refused(409, 'Conflict', () =>
        core.replaceNamespacedConfigMap({ name: 'one', namespace, body: made }),
    );
}

async function anyObject() {
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const deployment = {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web', namespace },
        spec: {
            replicas: 1,
            selector: { matchLabels: { app: 'web' } },
            template: {
                metadata: { labels: { app: 'web' } },
                spec: {
                    terminationGracePeriodSeconds: 1,
                    containers: [
                        {
                            name: 'c',
                            image,
                            command: ['sh', '-c', 'echo begun; exec httpd -f -p 8080 -h /etc'],
                        },
                    ],
                },
            },
        },
    };
    await objects.create(deployment);
    await objects.patch(
        { ...deployment, spec: { ...deployment.spec, replicas: 2 } },
        undefined, undefined, 'node', true, k8s.PatchStrategy.ServerSideApply,
    );
    const read = await objects.read(deployment);
    assert.equal(read.spec.replicas, 2);
    assert.ok(read.metadata.managedFields.some((f) => f.manager === 'node' && f.operation === 'Apply'));
    const listed = await objects.list('apps/v1', 'Deployment', namespace);
    assert.equal(listed.items.length, 1);
}

async function informer() {
    const seen = new Map();
    const informer = k8s.makeInformer(
        config,
        `/api/v1/namespaces/${namespace}/pods`,
        () => core.listNamespacedPod({ namespace, labelSelector: 'app=web' }),
        'app=web',
    );
    const ready = (pod) =>
        (pod.status?.conditions ?? []).some((c) => c.type === 'Ready' && c.status === 'True');
    informer.on('add', (pod) => seen.set(pod.metadata.name, ready(pod)));
    informer.on('update', (pod) => seen.set(pod.metadata.name, ready(pod)));
    informer.on('delete', (pod) => seen.delete(pod.metadata.name));
    await informer.start();
    await until('two ready pods', () => seen.size === 2 && [...seen.values()].every(Boolean));
    const [first, second] = [...seen.keys()];
    await core.deleteNamespacedPod({ name: first, namespace });
    await until('another pod instead', () =>
        !seen.has(first) && seen.size === 2 && [...seen.values()].every(Boolean),
    );
    await informer.stop();
    return second;
}

function collect(stream) {
    let text = '';
    stream.on('data', (chunk) => (text += chunk));
    return () => text;
}

async function streams(pod) {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const [out, err] = [collect(stdout), collect(stderr)];
    const command = ['sh', '-c', 'read line; echo "got $line"; echo err >&2; exit 3'];
    const stdin = new PassThrough();
    stdin.end('a line\n');
    const status = await new Promise((resolve, reject) => {
        new k8s.Exec(config)
            .exec(namespace, pod, 'c', command, stdout, stderr, stdin, false, resolve)
            .catch(reject);
    });
    assert.equal(status.reason, 'NonZeroExitCode');
    assert.deepEqual(status.details.causes, [{ reason: 'ExitCode', message: '3' }]);
    await until('the output', () => out() === 'got a line\n' && err() === 'err\n');

    const log = new PassThrough();
    const logged = collect(log);
    await new k8s.Log(config).log(namespace, pod, 'c', log, { follow: false });
    await until('the log', () => logged() === 'begun\n');

    const server = net.createServer((socket) => {
        new k8s.PortForward(config).portForward(namespace, pod, [8080], socket, null, socket);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const socket = net.connect(server.address().port, '127.0.0.1');
    const answer = collect(socket);
    socket.write('GET /hostname HTTP/1.0\r\n\r\n');
    await until('an answer through the forward', () => answer().endsWith(`\r\n\r\n${pod}\n`));
    socket.destroy();
    server.close();
}

async function watches() {
    const seen = [];
    const { metadata } = await core.listNamespacedSecret({ namespace });
    const query = { resourceVersion: metadata.resourceVersion };
    const path = `/api/v1/namespaces/${namespace}/secrets`;
    const request = await new k8s.Watch(config).watch(
        path, query, (type, object) => seen.push(`${type} ${object.metadata.name}`), () => {},
    );
    await core.createNamespacedSecret({ namespace, body: { metadata: { name: 's' }, stringData: { a: 'b' } } });
    const secret = await core.readNamespacedSecret({ name: 's', namespace });
    assert.deepEqual(secret.data, { a: 'Yg==' });
    await core.deleteNamespacedSecret({ name: 's', namespace });
    await until('both events', () => seen.length === 2);
    assert.deepEqual(seen, ['ADDED s', 'DELETED s']);
    request.abort();
}

await core.createNamespace({ body: { metadata: { name: namespace } } });
await until('the service account', async () => {
    const accounts = await core.listNamespacedServiceAccount({ namespace });
    return accounts.items.some((account) => account.metadata.name === 'default');
});
await configMaps();
await anyObject();
const pod = await informer();
await streams(pod);
await watches();
await core.deleteNamespace({ name: namespace });
await until('the end of the namespace', async () => {
    const all = await core.listNamespace();
    return !all.items.some((one) => one.metadata.name === namespace);
});
console.log('node: all as it should be');
process.exit(0);
