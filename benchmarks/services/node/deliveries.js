// Takes the deliveries of a Dapr sidecar, single and bulk, and passes each event on to `deliver(user, data)`.

import { createServer } from "node:http";

export function serveDeliveries(deliver) {
  const take = ({ data }) => deliver(data.user_id, data);
  return createServer({ keepAliveTimeout: 3_600_000 }, (request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { entries, ...event } = JSON.parse(Buffer.concat(chunks));
      if (entries) for (const entry of entries) take(entry.event);
      else take(event);
      const statuses = entries?.map(({ entryId }) => ({ entryId, status: "SUCCESS" }));
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(statuses ? { statuses } : { status: "SUCCESS" }));
    });
  });
}
