// Every frame between broker and engine, judged by the schemas that clients and engines themselves use.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import * as six from '@relaycast/types';
import * as five from 'types5';
import * as firstFive from 'types505';

import { Proxy } from './proxy.mjs';
import {
  ended, folder, inOrder, inbox, live, ready, recorder, register, sidecar, startBroker, startEngine, until, workspace, written,
} from './support.mjs';

const CURSOR = 'relay:delivery-cursor-v1';
// Engines from 8.2 register a name once and want this frame then; none of these schemas, which are older, knows it.
const YOUNG = 'agent.recover';

test('a whole session speaks the wire as its published schemas say, both ways', async (t) => {
  const dir = folder(t);
  const files = { ada: path.join(dir, 'ada'), bob: path.join(dir, 'bob') };
  const engine = await startEngine(t, dir);
  const proxy = await Proxy.start(t, engine);
  const broker = await startBroker(t, dir, {
    engine: proxy,
    agents: { ada: recorder(files.ada) },
    env: { AGENT_RELAY_NODE_HARNESSES: 'cat,no-such-program' },
  });
  const relay = workspace(engine);
  const lead = await register(t, relay, 'lead');
  const invoke = async (action, input) => ended(lead.me, action, (await lead.me.actions.invoke(action, input)).invocationId);
  await live(relay, broker.name);

  // Agents come by the local API and by actions; one does not come at all.
  await broker.api('POST', '/api/spawn', { name: 'bob', cli: recorder(files.bob) });
  await ready(broker, 'bob');
  assert.equal((await invoke('spawn', { name: 'cat1', cli: 'cat', targetNode: broker.name })).status, 'completed');
  assert.equal((await invoke('spawn', { name: 'cat2', cli: 'no-such-program', targetNode: broker.name })).status, 'failed');

  // Messages of every kind.
  await lead.me.dm('ada', 'dm-to-ada');
  const post = await lead.me.send('#general', 'to-everybody');
  await lead.me.reply(post.id, 'in-the-thread');
  await lead.me.react(post.id, 'eyes');
  await lead.me.dm('bob', 'dm-to-bob', { mode: 'steer' });
  const group = await lead.me.dms.createGroup({ participants: ['ada', 'bob'], name: 'pair' });
  await lead.me.dms.sendMessage(group.id, 'to-the-pair');
  for (const file of Object.values(files)) await written(file, 'to-the-pair');
  await proxy.seen(acked('ada', 4), "ada's acks");

  // The socket drops, and comes back.
  proxy.cut();
  await lead.me.dm('ada', 'while-away');
  await proxy.seen(({ upgrades }) => upgrades.length >= 2, 'the broker to reconnect');
  await written(files.ada, 'while-away');
  await proxy.seen(acked('ada', 5), 'the ack after the reconnect');
  await live(relay, broker.name);

  // Agents go by action, by the local API, and with the broker.
  assert.equal((await invoke('release', { name: 'cat1' })).status, 'completed');
  await broker.api('DELETE', '/api/spawned/bob');
  await proxy.seen((p) => p.of('broker', 'agent.deregister').some((frame) => frame.name === 'bob'), 'bob to be deregistered');
  await broker.stop();
  await proxy.seen((p) => p.of('broker', 'node.deregister').length === 1, 'the goodbye');
  await until(async () => (await relay.nodes.get(broker.name)).live === false, 'the node to be gone');

  const words = ['dm-to-ada', 'to-everybody', 'in-the-thread', 'to-the-pair', 'while-away'];
  assert.deepEqual(inOrder(await written(files.ada, 'while-away'), words), words);

  assert.deepEqual(violations(proxy.frames), []);
  assert.deepEqual(replyViolations(proxy.frames), []);
  assert.deepEqual(proxy.of('engine', 'error'), [], 'the engine took everything');
  assert.deepEqual(types(proxy, 'broker'), [
    'action.result', 'agent.deregister', 'agent.register', 'delivery.ack', 'inventory.sync', 'node.deregister',
    'node.heartbeat', 'node.register',
  ]);
  for (const type of ['action.invoke', 'deliver', 'reply']) assert.ok(types(proxy, 'engine').includes(type), type);
  const results = proxy.of('broker', 'action.result');
  assert.ok(results.some((frame) => 'output' in frame) && results.some((frame) => 'error' in frame));
  assert.equal(proxy.of('broker', 'node.register').length >= 2, true, 'registered again after the drop');
  assert.ok(proxy.requests.every(({ status }) => status < 500), JSON.stringify(proxy.requests.filter(({ status }) => status >= 500)));
});

for (const version of ['5.0.1', '6.0.3', '8.2', '9.0']) {
  test(`an engine of ${version} gets nothing that the published schemas do not know, also from agents that come back`, async (t) => {
    const dir = folder(t);
    const files = { ada: path.join(dir, 'ada'), bob: path.join(dir, 'bob') };
    fs.writeFileSync(path.join(dir, 'relay-broker.toml'), '[action.upper]\ncommand = ["sh", "-c", "tr a-z A-Z"]\n');
    const engine = await startEngine(t, dir, { behave: version });
    const proxy = await Proxy.start(t, engine);
    const agents = { ada: recorder(files.ada), bob: recorder(files.bob) };
    const first = await startBroker(t, dir, { engine: proxy, agents });
    const relay = workspace(engine);
    await live(relay, first.name);
    const lead = await register(t, relay, 'lead');
    const invoke = async (action, input) => ended(lead.me, action, (await lead.me.actions.invoke(action, input)).invocationId);
    assert.deepEqual((await invoke('upper', { a: 'b' })).output, { A: 'B' });
    assert.equal((await invoke('spawn', { name: 'cat1', cli: 'cat', sessionRef: 's1' })).status, 'completed');
    await lead.me.dm('ada', 'before');
    await written(files.ada, 'before');
    await first.kill();
    const second = await startBroker(t, dir, { engine: proxy, agents });
    await live(relay, second.name);
    await lead.me.dm('ada', 'after');
    await written(files.ada, 'after');
    await proxy.seen(acked('ada', 2), "ada's acks");
    await second.stop();
    await proxy.seen((p) => p.of('broker', 'node.deregister').length === 1, 'the goodbye');

    assert.deepEqual(inOrder(await written(files.ada, 'after'), ['before', 'after']), ['before', 'after']);
    const ours = proxy.frames.filter(({ from }) => from === 'broker');
    const young = ours.filter(({ frame }) => frame.type === YOUNG);
    assert.equal(young.length > 0, ['8.2', '9.0'].includes(version), `${YOUNG}: ${young.length}`);
    const told = ours.some(({ frame }) => frame.type === 'node.register' && 'provider' in frame);
    assert.equal(told, version !== '5.0.1', 'engines from 6 are told which instance of a provider this is');
    assert.deepEqual(violations(ours.filter((frame) => !young.includes(frame))), []);
    const complaints = proxy.of('engine', 'error').filter(({ code }) => code === 'invalid_message');
    assert.deepEqual(complaints, [], 'the engine could read everything');
  });
}

test('what a node says for the programs that serve its actions keeps to the schemas, as they come, answer, fail and go', async (t) => {
  const dir = folder(t);
  const engine = await startEngine(t, dir);
  const proxy = await Proxy.start(t, engine);
  const agents = Object.fromEntries(['ada', 'bob', 'cleo'].map((name) => [name, recorder(path.join(dir, name))]));
  const broker = await startBroker(t, dir, { engine: proxy, agents });
  const relay = workspace(engine);
  await live(relay, broker.name);
  const lead = await register(t, relay, 'lead');
  const invoke = async (action, input) => ended(lead.me, action, (await lead.me.actions.invoke(action, input)).invocationId);
  const offered = (frame) => frame.capabilities.map(({ name }) => name);
  const { socket } = await sidecar(t, broker, {
    echo: (input) => ({ said: input.words }),
    list: () => [1, 'two', null],
    nothing: () => undefined,
    fail: () => { throw new Error('not today'); },
    'spawn:made': async (input, ask) => ask('spawn_agent', { agent: { name: input.name, cli: 'cat' } }),
  });
  await proxy.seen((p) => p.of('broker', 'node.register').some((frame) => offered(frame).includes('spawn:made')), 'the offer');
  const outcomes = [];
  for (const action of ['echo', 'list', 'nothing', 'fail']) outcomes.push((await invoke(action, { words: 'hello' })).status);
  assert.deepEqual(outcomes, ['completed', 'completed', 'completed', 'failed']);
  assert.equal((await invoke('spawn', { name: 'dora', capability: 'spawn:made' })).status, 'completed');
  await proxy.seen((p) => p.of('broker', 'inventory.sync').some((frame) => frame.agents.length === 4), 'a list of all agents');
  const before = proxy.of('broker', 'node.register').length;
  socket.terminate();
  await proxy.seen((p) => p.of('broker', 'node.register').slice(before).some((frame) => !offered(frame).includes('echo')), 'the end of the offer');
  await broker.stop();

  assert.deepEqual(violations(proxy.frames), []);
  assert.deepEqual(replyViolations(proxy.frames), []);
  assert.deepEqual(proxy.of('engine', 'error'), [], 'the engine took everything');
});

test('all that two nodes said to engines of every age in the matrix keeps to the schemas', { skip: !process.env.MATRIX_FRAMES }, () => {
  const lines = fs.readFileSync(process.env.MATRIX_FRAMES, 'utf8').split('\n').filter(Boolean);
  const frames = lines.map((text) => ({ from: 'broker', text, frame: JSON.parse(text) }));
  const told = new Set(frames.map(({ frame }) => frame.type));
  for (const type of ['node.register', 'agent.register', 'inventory.sync', 'node.heartbeat', 'delivery.ack', 'action.result']) {
    assert.ok(told.has(type), type);
  }
  assert.deepEqual(violations(frames.filter(({ frame }) => frame.type !== YOUNG)), []);
});

test('what a client of the SDK and the engine say to each other keeps to the schemas, too', async (t) => {
  const engine = await startEngine(t, folder(t));
  const proxy = await Proxy.start(t, engine);
  const relay = workspace(proxy);
  const [ada, bob] = [await register(t, relay, 'ada'), await register(t, relay, 'bob')];
  const box = await inbox(bob.me);
  const post = await ada.me.send('#general', 'hello');
  await ada.me.reply(post.id, 'again');
  await ada.me.react(post.id, 'eyes');
  await ada.me.channels.create({ name: 'ops' });
  await bob.me.channels.join('ops');
  await ada.me.dm('bob', 'the end');
  await box.upTo('the end');
  await proxy.seen(acked('bob', 3), "bob's acks");
  assert.deepEqual(violations(proxy.frames), []);
  assert.deepEqual(replyViolations(proxy.frames), []);
  assert.deepEqual(proxy.of('engine', 'error'), []);
});

test('a frame that says more or less than the schemas know is noticed', () => {
  const judged = [
    ['broker', { v: 1, type: 'node.deregister', why: 'tired' }],
    ['broker', { v: 1, type: 'delivery.ack', agent: 'ada' }],
    ['broker', { v: 1, type: 'action.result', invocation_id: 'i', output: 1, error: 'e' }],
    ['engine', { v: 1, type: 'deliver', agent: 'ada', seq: 1 }],
    ['engine', { v: 1, type: 'reply', id: 'r', ok: true, data: {}, more: 1 }],
    ['broker', undefined],
  ].map(([from, frame]) => violations([{ from, frame, text: '' }]).length);
  assert.deepEqual(judged, [3, 3, 3, 3, 3, 3]);
  const asked = { from: 'broker', frame: { v: 1, id: 'q', type: 'agent.register', name: 'ada' }, text: '' };
  const reply = (data) => ({ from: 'engine', frame: { v: 1, id: 'q', type: 'reply', ok: true, data }, text: '' });
  assert.equal(replyViolations([asked, reply({ agent_id: '1', name: 'ada', token: 't' })]).length, 0);
  assert.equal(replyViolations([asked, reply({ agent_id: '1', name: 'ada', token: 't', delivery_ack_seq: 0 })]).length, 1);
});

function acked(agent, seq) {
  return (proxy) => proxy.of('broker', 'delivery.ack').some((ack) => ack.agent === agent && ack.up_to_seq >= seq);
}

function types(proxy, from) {
  return [...new Set(proxy.of(from).map((frame) => frame?.type))].sort();
}

/** What any version of the schemas has against a frame. Only engines from 6 are told the provider, which older schemas do not know. */
function violations(frames) {
  return frames.flatMap(({ from, text, frame: said }) => [firstFive, five, six].flatMap((schemas, index) => {
    const { provider, ...rest } = said ?? {};
    const frame = schemas !== six && said?.type === 'node.register' && provider ? rest : said;
    const parse = from === 'broker' ? schemas.parseFleetBrokerToRelaycastMessage : schemas.parseFleetRelaycastToBrokerMessage;
    try {
      parse(frame);
      return [];
    } catch (error) {
      return [{ schemas: ['5.0.5', '5.0.7', '6.0.2'][index], from, text, issues: error.issues ?? String(error) }];
    }
  }));
}

/** Replies say in `data` what their requests call for, and nothing else, where anybody checks. */
function replyViolations(frames) {
  const found = [];
  const asked = new Map();
  let cursor = false;
  for (const { from, frame, text } of frames) {
    if (from === 'broker') {
      if (frame.id) asked.set(frame.id, frame.type);
      if (frame.type === 'node.register') cursor = frame.capabilities.some(({ name }) => name === CURSOR);
    } else if (frame.type === 'reply') {
      const data = { ...frame.data };
      const schema = {
        'agent.register': six.AgentRegisterReplyDataSchema, 'node.register': six.NodeRegisterReplyDataSchema,
      }[asked.get(frame.id)];
      // Younger than the schema, and only for those who asked for it.
      if (asked.get(frame.id) === 'agent.register' && cursor) delete data.delivery_ack_seq;
      const judged = schema?.safeParse(data);
      if (judged && !judged.success) found.push({ text, issues: judged.error.issues });
    }
  }
  return found;
}
