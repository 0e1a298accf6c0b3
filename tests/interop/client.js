// gRPC's client for Node.js asks a server; prints what came as one JSON object.
const [, , address, proto, ca] = process.argv;
const grpc = require("@grpc/grpc-js");
const loaded = require("@grpc/proto-loader").loadSync(proto, { keepCase: true, defaults: true });
const { PredictionService } = grpc.loadPackageDefinition(loaded).prediction.v1;

const SECONDS = 30;
const deadline = (seconds) => ({ deadline: Date.now() + seconds * 1000 });
const failure = ({ code, details, metadata }) => {
  const [rich] = metadata?.get("grpc-status-details-bin") ?? [];
  return { code, details, ...(rich && { rich: rich.toString("base64") }) };
};

function connect(options = {}) {
  const { createInsecure, createSsl } = grpc.credentials;
  return new PredictionService(address, ca ? createSsl(require("fs").readFileSync(ca)) : createInsecure(), options);
}

function call(client, method, request) {
  return new Promise((resolve) =>
    client[method](request, deadline(SECONDS), (error, answer) => resolve(error ? failure(error) : answer)),
  );
}

// Everything that comes of a stream, and how it ends.
function stream(client, items, seconds, end) {
  return new Promise((resolve) => {
    const answers = [];
    const talk = client.PredictStream(deadline(seconds));
    talk.on("data", (answer) => answers.push(answer));
    talk.on("error", () => {});
    talk.on("status", (status) => resolve({ answers, ...failure(status) }));
    items.forEach((item) => talk.write(item));
    if (end) talk.end();
  });
}

async function main() {
  const client = connect();
  const zipped = connect({ "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip });
  const review = { reviews: ["A wonderful film."] };
  const items = Array.from({ length: 300 }, (_, n) => ({
    id: `${n}`,
    ...(n % 3 ? { topic: { newswires: ["Crude oil fell."], top_k: (n % 46) + 1 } } : { sentiment: review }),
  }));
  items[7] = { id: "7", house_price: {} };
  const found = {
    sentiment: await call(client, "PredictSentiment", review),
    topic: await call(client, "PredictTopic", { newswires: ["Crude oil fell."], top_k: 5 }),
    house: await call(client, "PredictHousePrice", { houses: [{ rooms: 6.5 }] }),
    large: (await call(client, "PredictTopic", { newswires: Array(500).fill("Oil fell. " + " ".repeat(4000)), top_k: 46 }))
      .predictions.length,
    zipped: await call(zipped, "PredictSentiment", review),
    many: (await Promise.all(Array.from({ length: 300 }, () => call(client, "PredictSentiment", review)))).filter(
      (answer) => answer.predictions?.length === 1,
    ).length,
    invalid: await call(client, "PredictSentiment", {}),
    missing: await call(client, "PredictSentiment", { ...review, version: "ü % 1" }),
    stream: await stream(client, items, SECONDS, true),
    late: await stream(client, [], 0.05, false),
  };
  console.log(JSON.stringify(found));
  client.close();
  zipped.close();
}

main();
