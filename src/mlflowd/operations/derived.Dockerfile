# What the engine builds where an image lacks packages that the configuration needs. The first stage may see the
# machine's CA bundle and index settings (build/); it is thrown away, and the image gets the added packages alone.
# Written for the classic builder, which every engine has: no syntax line, no mounts.
ARG BASE
FROM ${BASE} AS additions
ARG MLFLOWD_BUILD
ARG PURELIB
LABEL io.mlflowd.build=${MLFLOWD_BUILD}
USER 0
COPY build/ /build/
RUN ["/bin/sh", "/build/add-packages.sh"]

FROM ${BASE}
ARG PURELIB
ARG BASE_USER
USER 0
COPY --from=additions /additions/ ${PURELIB}/
# Takes away what an addition replaces, in the version that the base has.
RUN ["python", "-m", "mlflowd_added"]
USER ${BASE_USER}
