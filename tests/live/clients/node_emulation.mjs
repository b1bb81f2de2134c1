// What Node's clients make of tools and structured answers: a job a line on standard input, its value on standard output.
//
//   {"job", "base", "model", "text"} → {"value"} or {"error": {"name", "status", "code", "message"}}

import dns from 'node:dns';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

dns.lookup = name => {
  throw new Error(`${name} is no address of this machine`);
};

const require = createRequire(new URL('../servers/package.json', import.meta.url));
const { OpenAI } = require('openai');
const { zodFunction, zodResponseFormat } = require('openai/helpers/zod');
const { createOpenAICompatible } = require('@ai-sdk/openai-compatible');
const ai = require('ai5');
const { z } = require('zod');

const City = z.object({ city: z.string() });
const Pair = z.object({ a: z.number(), b: z.number() });
const Town = z.object({ name: z.string(), people: z.number().int() });
const PEOPLE = { Oslo: 717710, Bergen: 291940 };

function jobsFor({ base, model, text }) {
  const messages = [{ role: 'user', content: text }];
  const { completions } = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: 0, timeout: 30_000 }).chat;
  const provider = createOpenAICompatible({ name: 'gateway', baseURL: `${base}/v1`, supportsStructuredOutputs: true });
  const plain = createOpenAICompatible({ name: 'gateway', baseURL: `${base}/v1` });

  const asked = [];
  function population({ city }) {
    asked.push(`population ${city}`);
    return { city, population: PEOPLE[city] };
  }
  function add({ a, b }) {
    asked.push(`add ${a} ${b}`);
    return a + b;
  }

  const openaiTools = [
    zodFunction({ name: 'population', description: 'How many people live there.', parameters: City, function: population }),
    zodFunction({ name: 'add', description: 'The sum.', parameters: Pair, function: add }),
  ];
  const aiTools = {
    population: ai.tool({ description: 'How many people live there.', inputSchema: City, execute: population }),
    add: ai.tool({ description: 'The sum.', inputSchema: Pair, execute: add }),
  };
  const aiOptions = { model: provider(model), messages, maxRetries: 0, stopWhen: ai.stepCountIs(9) };

  return {
    async stream() {
      const runner = completions.stream({ model, messages, tools: openaiTools });
      const deltas = [];
      runner.on('tool_calls.function.arguments.delta', ({ arguments_delta }) => deltas.push(arguments_delta));
      const { choices } = await runner.finalChatCompletion();
      return { choice: choices[0], deltas };
    },
    async streamFormat() {
      const runner = completions.stream({ model, messages, response_format: zodResponseFormat(Town, 'town') });
      const deltas = [];
      runner.on('content.delta', ({ delta }) => deltas.push(delta));
      const { choices } = await runner.finalChatCompletion();
      return { parsed: choices[0].message.parsed, deltas };
    },
    async parse() {
      const { choices } = await completions.parse({ model, messages, response_format: zodResponseFormat(Town, 'town') });
      return choices[0].message.parsed;
    },
    async parseTools() {
      const { choices } = await completions.parse({ model, messages, tools: openaiTools });
      return choices[0].message.tool_calls.map(call => [call.function.name, call.function.parsed_arguments]);
    },
    async runTools() {
      const final = await completions.runTools({ model, messages, tools: openaiTools }).finalContent();
      return { final, asked };
    },
    async runToolsStreamed() {
      const final = await completions.runTools({ model, messages, tools: openaiTools, stream: true }).finalContent();
      return { final, asked };
    },
    async generateObject() {
      return (await ai.generateObject({ ...aiOptions, schema: Town })).object;
    },
    async generateObjectInJsonMode() {
      return (await ai.generateObject({ ...aiOptions, model: plain(model), schema: Town })).object;
    },
    async streamObject() {
      const result = ai.streamObject({ ...aiOptions, schema: Town, onError() {} });
      let last;
      for await (const partial of result.partialObjectStream) last = partial;
      return { object: await result.object, last };
    },
    async generateText() {
      const { text: final, steps, finishReason } = await ai.generateText({ ...aiOptions, tools: aiTools });
      return { final, asked, steps: steps.map(step => step.finishReason), finishReason };
    },
    async streamText() {
      const result = ai.streamText({ ...aiOptions, tools: aiTools, onError() {} });
      const types = [];
      for await (const part of result.fullStream) {
        if (part.type === 'error') throw part.error;
        types.push(part.type);
      }
      const steps = (await result.steps).map(step => step.finishReason);
      const deltas = types.filter(type => type === 'tool-input-delta').length;
      return { final: await result.text, asked, steps, finishReason: await result.finishReason, deltas };
    },
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { job, ...told } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ value: await jobsFor(told)[job]() }));
  } catch (error) {
    const { name, status, statusCode, code, message, responseBody } = error;
    console.log(JSON.stringify({ error: { name, status: status ?? statusCode, code, message, responseBody } }));
  }
}
